//! The load balancer before the service.

use aws_sdk_ecs::types as ecs_types;
use aws_sdk_elasticloadbalancingv2::operation::create_target_group::CreateTargetGroupInput;
use aws_sdk_elasticloadbalancingv2::types as elb;

use super::{LOAD_BALANCER, OTHER_TARGET_GROUP, Options, SERVICE, TARGET_GROUP, VPC};
use crate::load_balancing::{Target, create_target_group};
use crate::world::World;

/// Stable's target group for the port with this index.
fn group_name(index: usize) -> String {
    if index == 0 {
        TARGET_GROUP.to_owned()
    } else {
        format!("{TARGET_GROUP}-{}", index + 1)
    }
}

fn arn_of(world: &World, name: &str) -> String {
    world
        .load_balancing
        .group_named(name)
        .expect("the builder made it")
        .arn()
        .to_owned()
}

/// The load balancer with everything but its targets.
pub(super) fn build(world: &mut World, options: &Options) {
    for (index, port) in options.ports().iter().enumerate() {
        add_group(world, options, &group_name(index), *port);
    }
    if options.other_weight.is_some() {
        for (index, port) in options.ports().iter().enumerate() {
            add_group(world, options, &other_name(index), *port);
        }
    }
    // A load balancer that a search must pass by.
    world.load_balancing.add_balancer("account-alb", true, VPC);
    let balancer = world
        .load_balancing
        .add_balancer(LOAD_BALANCER, !options.network, VPC);
    let tag = [("team".to_owned(), "payments".to_owned())];
    world
        .load_balancing
        .tags
        .insert(balancer.clone(), tag.into());
    if !options.network {
        let listener = elb::Listener::builder()
            .load_balancer_arn(&balancer)
            .port(443)
            .protocol(elb::ProtocolEnum::Https)
            .ssl_policy("ELBSecurityPolicy-TLS13-1-2-2021-06")
            .default_actions(closed())
            .build();
        let listener = world.load_balancing.add_listener(listener);
        for number in 0..options.routes.len() {
            for index in 0..options.ports().len() {
                let rule = rule(world, options, number, index);
                let priority = rule.priority().unwrap_or_default().to_owned();
                world.load_balancing.add_rule(&listener, rule);
                let path = format!("{LOAD_BALANCER}:443/{priority}");
                world.stable_rules.push(path);
            }
        }
    }
    if options.network || options.default_forwards {
        let protocol = if options.network {
            elb::ProtocolEnum::Tcp
        } else {
            elb::ProtocolEnum::Https
        };
        // A Network Load Balancer has a listener for each port.
        let listeners = if options.network {
            options.ports().len()
        } else {
            1
        };
        for (index, port) in (0..listeners).zip(8443..) {
            let listener = elb::Listener::builder()
                .load_balancer_arn(&balancer)
                .port(port)
                .protocol(protocol.clone())
                .default_actions(forward(world, options, index))
                .build();
            world.load_balancing.add_listener(listener);
            let path = format!("{LOAD_BALANCER}:{port}/default");
            world.stable_rules.push(path);
        }
    }
}

fn other_name(index: usize) -> String {
    if index == 0 {
        OTHER_TARGET_GROUP.to_owned()
    } else {
        format!("{OTHER_TARGET_GROUP}-{}", index + 1)
    }
}

fn add_group(world: &mut World, options: &Options, name: &str, port: i32) {
    let tag = |key: &str, value: &str| elb::Tag::builder().key(key).value(value).build();
    let (protocol, checks) = if options.network {
        (elb::ProtocolEnum::Tcp, elb::ProtocolEnum::Tcp)
    } else {
        (elb::ProtocolEnum::Http, elb::ProtocolEnum::Http)
    };
    let http = !options.network;
    let input = CreateTargetGroupInput::builder()
        .name(name)
        .protocol(protocol)
        .port(port)
        .vpc_id(VPC)
        .target_type(elb::TargetTypeEnum::Ip)
        .health_check_protocol(checks)
        .set_health_check_path(http.then(|| "/health".to_owned()))
        .set_matcher(http.then(|| elb::Matcher::builder().http_code("200-299").build()))
        .health_check_interval_seconds(5)
        .health_check_timeout_seconds(2)
        .healthy_threshold_count(2)
        .unhealthy_threshold_count(3)
        .tags(tag("team", "payments"))
        .tags(tag("Name", name))
        .build()
        .expect("nothing is required by the type");
    create_target_group(world, &input).expect("the target group is valid");
    let arn = arn_of(world, name);
    let group = world
        .load_balancing
        .group_mut(&arn)
        .expect("it was just made");
    for (key, value) in &options.group_attributes {
        group
            .attributes
            .insert((*key).to_owned(), (*value).to_owned());
    }
}

fn closed() -> elb::Action {
    elb::Action::builder()
        .r#type(elb::ActionTypeEnum::FixedResponse)
        .fixed_response_config(
            elb::FixedResponseActionConfig::builder()
                .status_code("404")
                .content_type("text/plain")
                .build(),
        )
        .build()
}

fn forward(world: &World, options: &Options, index: usize) -> elb::Action {
    let tuple = |name: &str, weight| {
        elb::TargetGroupTuple::builder()
            .target_group_arn(arn_of(world, name))
            .weight(weight)
            .build()
    };
    let mut config = elb::ForwardActionConfig::builder()
        .target_groups(tuple(&group_name(index), options.stable_weight));
    if let Some(weight) = options.other_weight {
        config = config.target_groups(tuple(&other_name(index), weight));
    }
    if let Some(seconds) = options.forward_stickiness {
        config = config.target_group_stickiness_config(
            elb::TargetGroupStickinessConfig::builder()
                .enabled(true)
                .duration_seconds(seconds)
                .build(),
        );
    }
    elb::Action::builder()
        .r#type(elb::ActionTypeEnum::Forward)
        .forward_config(config.build())
        .build()
}

/// A rule with everything in it that must survive a change of the weights.
fn rule(world: &World, options: &Options, number: usize, index: usize) -> elb::Rule {
    let host = elb::RuleCondition::builder()
        .field("host-header")
        .host_header_config(
            elb::HostHeaderConditionConfig::builder()
                .values(format!("checkout-{number}.example.com"))
                .build(),
        )
        .build();
    let header = elb::RuleCondition::builder()
        .field("http-header")
        .http_header_config(
            elb::HttpHeaderConditionConfig::builder()
                .http_header_name("x-tenant")
                .values("internal-*")
                .build(),
        )
        .build();
    let path = elb::RuleCondition::builder()
        .field("path-pattern")
        .values("/admin/*")
        .build();
    let rewrite = elb::RuleTransform::builder()
        .r#type(elb::TransformTypeEnum::UrlRewrite)
        .url_rewrite_config(
            elb::UrlRewriteConfig::builder()
                .rewrites(
                    elb::RewriteConfig::builder()
                        .regex("^/v1/(.*)$")
                        .replace("/$1")
                        .build(),
                )
                .build(),
        )
        .build();
    let mut forward = forward(world, options, index);
    let mut actions = Vec::new();
    if options.authenticate {
        let config = elb::AuthenticateOidcActionConfig::builder()
            .issuer("https://id.example.com")
            .authorization_endpoint("https://id.example.com/authorize")
            .token_endpoint("https://id.example.com/token")
            .user_info_endpoint("https://id.example.com/userinfo")
            .client_id("checkout")
            .client_secret("do not tell")
            .session_timeout(3600)
            .build();
        actions.push(
            elb::Action::builder()
                .r#type(elb::ActionTypeEnum::AuthenticateOidc)
                .order(1)
                .authenticate_oidc_config(config)
                .build(),
        );
        forward.order = Some(2);
    }
    actions.push(forward);
    let conditions = if index == 0 {
        vec![host, header]
    } else {
        vec![host, path]
    };
    elb::Rule::builder()
        .priority(((number + 1) * 10 + index).to_string())
        .set_conditions(Some(conditions))
        .set_actions(Some(actions))
        .transforms(rewrite)
        .build()
}

/// The target groups of an ECS service.
pub(super) fn of_service(
    world: &World,
    options: &Options,
    service: &str,
) -> Vec<ecs_types::LoadBalancer> {
    let attached = |(index, port): (usize, &i32)| {
        let name = if service == SERVICE {
            group_name(index)
        } else {
            other_name(index)
        };
        ecs_types::LoadBalancer::builder()
            .target_group_arn(arn_of(world, &name))
            .container_name("app")
            .container_port(*port)
            .build()
    };
    options.ports().iter().enumerate().map(attached).collect()
}

/// What ECS itself would not have accepted.
pub(super) fn finish(world: &mut World, options: &Options) {
    let now = world.now();
    for index in 0..options.ports().len() {
        let arn = arn_of(world, &group_name(index));
        let group = world
            .load_balancing
            .group_mut(&arn)
            .expect("it was made above");
        group.data.target_type = Some(elb::TargetTypeEnum::from(options.target_type));
        if options.foreign_target {
            let port = group.data.port().unwrap_or_default();
            let foreign = Target::new("10.0.99.99".to_owned(), port, None, now);
            group.targets.push(foreign);
        }
    }
}
