//! Deployments on the load balancer made by hand, through the gateway and without any function, under the whole load.
//!
//! They prove the local cloud and not the product: whoever does everything right loses no request, gets the answers that
//! AWS gives, and leaves the world as it was.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::cloud::{CloudOptions, LocalCloud};
use crate::data_plane::{ClientKind, FailureCause, LocalRouter};
use crate::gateway::{Effect, Fault};
use crate::load_balancing::{list, metric_name};
use crate::moto::{Moto, MotoError, Service};
use crate::stack::REGION;
use crate::world;

/// The canary's target group, ECS service and family.
const GROUP: &str = "checkout-canary-0a1b2c3d";
const CANARY: &str = "checkout-canary";

/// How long anything may take.
const LIMIT: Duration = Duration::from_mins(1);

/// A person with the AWS CLI.
struct Hand<'a> {
    cloud: &'a LocalCloud,
    api: Moto,
    /// When who answers was changed.
    changes: Vec<(&'static str, Timestamp)>,
}

impl<'a> Hand<'a> {
    fn new(cloud: &'a LocalCloud) -> Self {
        Self {
            cloud,
            api: Moto::new(&cloud.endpoint(), REGION).unwrap(),
            changes: Vec::new(),
        }
    }

    async fn balancing(&self, action: &str, request: Value) -> Value {
        let answer = self.api.load_balancing(action, &request).await;
        answer.unwrap_or_else(|problem| panic!("{action}: {problem}"))
    }

    async fn ecs(&self, operation: &str, request: Value) -> Value {
        let answer = self.api.call(Service::Ecs, operation, &request).await;
        answer.unwrap_or_else(|problem| panic!("{operation}: {problem}"))
    }

    fn changed(&mut self, what: &'static str) {
        self.changes.push((what, Timestamp::now()));
    }

    async fn listeners(&self) -> Vec<Value> {
        let balancers = self.balancing("DescribeLoadBalancers", json!({})).await;
        let arn = &balancers["LoadBalancers"][0]["LoadBalancerArn"];
        let described = self
            .balancing("DescribeListeners", json!({"LoadBalancerArn": arn}))
            .await;
        list(&described["Listeners"]).cloned().collect()
    }

    /// Forwards in every place where stable's group is named.
    async fn forward(&mut self, what: &'static str, groups: Value) {
        let configuration = json!({
            "TargetGroups": groups, "TargetGroupStickinessConfig": {"Enabled": false},
        });
        let actions = json!([{"Type": "forward", "Order": 1, "ForwardConfig": configuration}]);
        for listener in self.listeners().await {
            let arn = &listener["ListenerArn"];
            if listener["DefaultActions"][0]["Type"] == "forward" {
                let request = json!({"ListenerArn": arn, "DefaultActions": actions});
                self.balancing("ModifyListener", request).await;
            }
            let rules = self
                .balancing("DescribeRules", json!({"ListenerArn": arn}))
                .await;
            for rule in list(&rules["Rules"]).filter(|rule| rule["IsDefault"] != "true") {
                let request = json!({"RuleArn": rule["RuleArn"], "Actions": actions});
                self.balancing("ModifyRule", request).await;
            }
        }
        self.changed(what);
    }

    async fn weights(&mut self, what: &'static str, stable: (&str, u32), canary: (&str, u32)) {
        let groups = json!([
            {"TargetGroupArn": stable.0, "Weight": stable.1},
            {"TargetGroupArn": canary.0, "Weight": canary.1},
        ]);
        self.forward(what, groups).await;
    }

    /// Copies stable's target group with its attributes and tags.
    async fn copy_group(&self) -> (String, String) {
        let found = self
            .balancing("DescribeTargetGroups", json!({"Names": [world::SERVICE]}))
            .await;
        let stable = found["TargetGroups"][0].clone();
        let stable_arn = stable["TargetGroupArn"].as_str().unwrap().to_owned();
        let mut copy = stable;
        let members = copy.as_object_mut().unwrap();
        for name in ["TargetGroupArn", "TargetGroupName", "LoadBalancerArns"] {
            members.remove(name);
        }
        copy["Name"] = json!(GROUP);
        let created = self.balancing("CreateTargetGroup", copy.clone()).await;
        let again = self.balancing("CreateTargetGroup", copy).await;
        let arn_of = |answer: &Value| answer["TargetGroups"][0]["TargetGroupArn"].clone();
        assert_eq!(arn_of(&again), arn_of(&created), "no mistake");
        let arn = arn_of(&created).as_str().unwrap().to_owned();
        let attributes = self
            .balancing(
                "DescribeTargetGroupAttributes",
                json!({"TargetGroupArn": stable_arn}),
            )
            .await;
        let request = json!({"TargetGroupArn": arn, "Attributes": attributes["Attributes"]});
        self.balancing("ModifyTargetGroupAttributes", request).await;
        (stable_arn, arn)
    }

    /// Registers a version in a family and returns its ARN.
    async fn register(&self, family: &str, tag: &str) -> Value {
        let described = self
            .ecs(
                "DescribeTaskDefinition",
                json!({"taskDefinition": world::SERVICE}),
            )
            .await;
        let stable = &described["taskDefinition"];
        let mut containers = stable["containerDefinitions"].clone();
        containers[0]["image"] = json!(world::image(tag));
        let request = json!({
            "family": family, "containerDefinitions": containers,
            "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512",
        });
        let registered = self.ecs("RegisterTaskDefinition", request).await;
        registered["taskDefinition"]["taskDefinitionArn"].clone()
    }

    fn canary_service(definition: &Value, group: &str) -> Value {
        json!({
            "cluster": world::CLUSTER, "serviceName": CANARY, "taskDefinition": definition, "desiredCount": 2,
            "launchType": "FARGATE",
            "loadBalancers": [{"targetGroupArn": group, "containerName": "app", "containerPort": 8080}],
        })
    }

    async fn healths(&self, group: &str) -> Vec<String> {
        let described = self
            .balancing("DescribeTargetHealth", json!({"TargetGroupArn": group}))
            .await;
        list(&described["TargetHealthDescriptions"])
            .map(|each| each["TargetHealth"]["State"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn service(&self, name: &str) -> Value {
        let request = json!({"cluster": world::CLUSTER, "services": [name]});
        self.ecs("DescribeServices", request).await["services"][0].clone()
    }

    async fn suspend_scale_in(&self, suspended: bool) {
        let request = json!({
            "ServiceNamespace": "ecs",
            "ResourceId": format!("service/{}/{}", world::CLUSTER, world::SERVICE),
            "ScalableDimension": "ecs:service:DesiredCount",
            "SuspendedState": {"DynamicScalingInSuspended": suspended},
        });
        self.api
            .call(Service::AutoScaling, "RegisterScalableTarget", &request)
            .await
            .unwrap();
    }

    /// Lets a step be answered for some seconds, so that it is more than a moment.
    async fn hold(&self) {
        tokio::time::sleep(Duration::from_secs(4)).await;
    }

    /// Creates the canary of a version at weight 0; returns the two groups and the task definition.
    async fn create(&mut self, tag: &str) -> (String, String, Value) {
        self.suspend_scale_in(true).await;
        let (stable, canary) = self.copy_group().await;
        let definition = self.register(CANARY, tag).await;
        let service = Self::canary_service(&definition, &canary);
        let refused = self.api.call(Service::Ecs, "CreateService", &service).await;
        assert!(
            matches!(&refused, Err(MotoError::Refused { code, message, .. })
                if code == "InvalidParameterException" && message.contains("associated load balancer")),
            "{refused:?}"
        );
        self.weights("attach", (&stable, 999), (&canary, 0)).await;
        self.ecs("CreateService", service).await;
        eventually("the canary's targets are healthy", || async {
            self.healths(&canary).await == ["healthy", "healthy"]
        })
        .await;
        (stable, canary, definition)
    }

    /// Removes the canary, which gets no requests any more.
    async fn remove(&mut self, stable: &str, canary: &str, definition: &Value) {
        let mut request = json!({"cluster": world::CLUSTER, "service": CANARY});
        request["desiredCount"] = json!(0);
        self.ecs("UpdateService", request).await;
        self.changed("scale to 0");
        eventually("the canary's targets drain", || async {
            self.healths(canary).await == ["draining", "draining"]
        })
        .await;
        eventually("the canary has no task", || async {
            self.service(CANARY).await["runningCount"] == 0
        })
        .await;
        let request = json!({"cluster": world::CLUSTER, "service": CANARY});
        self.ecs("DeleteService", request).await;
        self.changed("delete the service");
        let in_use = self
            .api
            .load_balancing("DeleteTargetGroup", &json!({"TargetGroupArn": canary}))
            .await;
        assert!(
            matches!(&in_use, Err(MotoError::Refused { code, .. }) if code == "ResourceInUse"),
            "{in_use:?}"
        );
        let only = json!([{"TargetGroupArn": stable, "Weight": 1}]);
        self.forward("detach", only).await;
        self.balancing("DeleteTargetGroup", json!({"TargetGroupArn": canary}))
            .await;
        self.changed("delete the group");
        self.ecs(
            "DeregisterTaskDefinition",
            json!({"taskDefinition": definition}),
        )
        .await;
        self.suspend_scale_in(false).await;
        eventually("the canary's service is gone", || async {
            self.service(CANARY).await["status"] == "INACTIVE"
        })
        .await;
    }

    /// Nothing was lost, by no kind of client, though slow requests were under way at every change.
    async fn assert_nothing_lost(&self) {
        let load = self.cloud.load_so_far().await;
        assert_eq!(load.failed_by_deployment, 0, "{:?}", load.examples);
        for kind in ClientKind::ALL {
            assert!(load.by_kind[&kind].requests > 10, "{:?}", load.by_kind);
        }
        for (change, at) in &self.changes {
            assert!(load.slow_under_way(*at) > 0, "at {change}");
        }
    }
}

/// Waits for a condition.
async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < LIMIT, "{what}: not after {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// One cloud at a time: each has a dozen processes.
static CLOUDS: Semaphore = Semaphore::const_new(1);

/// A cloud under load: its first slow request is under way, so that no change comes before one.
async fn cloud() -> LocalCloud {
    let cloud = LocalCloud::start(CloudOptions {
        router: LocalRouter::Alb,
        keep_logs: false,
        wait_for_metrics: false,
        ..CloudOptions::default()
    })
    .await
    .expect("a local cloud; `cargo xtask test` installs and builds what it needs");
    eventually("a slow request is under way", || async {
        !cloud.load().slow.is_empty()
    })
    .await;
    cloud
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_version_is_tried_and_taken_back_by_hand_without_a_lost_request_or_a_trace() {
    let _room = CLOUDS.acquire().await.unwrap();
    let cloud = cloud().await;
    let mut hand = Hand::new(&cloud);
    let before = cloud.world_snapshot().await.unwrap();
    let began = Timestamp::now();
    let (stable, canary, definition) = hand.create("bad").await;
    assert_eq!(
        cloud.split().await.unwrap(),
        [(world::SERVICE.to_owned(), 999), (GROUP.to_owned(), 0)]
    );
    for (step, share) in [("to 10 %", 100), ("to 50 %", 500)] {
        hand.weights(step, (&stable, 1000 - share), (&canary, share))
            .await;
        hand.hold().await;
    }
    eventually("the canary's 5xx are published", || async {
        let bad = cloud.first_bad_datapoint(CANARY, began).await.unwrap();
        bad.is_some()
    })
    .await;
    hand.weights("back to 0 %", (&stable, 999), (&canary, 0))
        .await;
    hand.hold().await;
    hand.remove(&stable, &canary, &definition).await;
    let after = cloud.world_snapshot().await.unwrap();
    assert_eq!(before.differences(&after), Vec::<String>::new());
    let load = cloud.load();
    assert!(load.by_version["bad"].failed > 0);
    assert_eq!(load.by_version["good-1"].failed, 0);
    hand.assert_nothing_lost().await;
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_is_promoted_by_hand_without_a_lost_request() {
    let _room = CLOUDS.acquire().await.unwrap();
    let cloud = cloud().await;
    let mut hand = Hand::new(&cloud);
    let before = cloud.world_snapshot().await.unwrap();
    let (stable, canary, definition) = hand.create("good-2").await;
    for (step, weights) in [
        ("to 0.5 %", (995, 5)),
        ("to 50 %", (500, 500)),
        ("to 100 %", (0, 999)),
    ] {
        hand.weights(step, (&stable, weights.0), (&canary, weights.1))
            .await;
        hand.hold().await;
    }
    let promoted = hand.register(world::SERVICE, "good-2").await;
    let request =
        json!({"cluster": world::CLUSTER, "service": world::SERVICE, "taskDefinition": promoted});
    hand.ecs("UpdateService", request).await;
    hand.changed("update stable");
    eventually("stable is rolled out", || async {
        let service = hand.service(world::SERVICE).await;
        let deployments = service["deployments"].as_array().unwrap();
        deployments.len() == 1 && deployments[0]["rolloutState"] == "COMPLETED"
    })
    .await;
    hand.weights("back to stable", (&stable, 999), (&canary, 0))
        .await;
    hand.hold().await;
    hand.remove(&stable, &canary, &definition).await;
    hand.ecs(
        "DeregisterTaskDefinition",
        json!({"taskDefinition": "checkout:1"}),
    )
    .await;
    let after = cloud.world_snapshot().await.unwrap();
    assert_eq!(
        before.differences_after_promotion(&after),
        Vec::<String>::new()
    );
    assert_eq!(cloud.load().failed_by_versions, 0);
    hand.assert_nothing_lost().await;
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_service_loses_no_request_and_the_apis_answer_as_aws_does() {
    let _room = CLOUDS.acquire().await.unwrap();
    let cloud = cloud().await;
    let mut hand = Hand::new(&cloud);
    let next = hand.register(world::SERVICE, "good-3").await;
    let request =
        json!({"cluster": world::CLUSTER, "service": world::SERVICE, "taskDefinition": next});
    hand.ecs("UpdateService", request).await;
    hand.changed("update the service");
    eventually("the service is rolled out", || async {
        let service = hand.service(world::SERVICE).await;
        service["deployments"].as_array().unwrap().len() == 1
            && service["deployments"][0]["rolloutState"] == "COMPLETED"
    })
    .await;
    hand.assert_nothing_lost().await;

    // What AWS refuses and how it shows things.
    let listeners = hand.listeners().await;
    let listener = &listeners[1];
    let action = &listener["DefaultActions"][0];
    assert_eq!(
        action["ForwardConfig"]["TargetGroups"][0]["TargetGroupArn"],
        action["TargetGroupArn"]
    );
    let rules = hand
        .balancing(
            "DescribeRules",
            json!({"ListenerArn": listener["ListenerArn"]}),
        )
        .await;
    let default = &rules["Rules"][0];
    assert_eq!(default["IsDefault"], "true");
    let request = json!({"RuleArn": default["RuleArn"], "Actions": default["Actions"]});
    let refused = hand.api.load_balancing("ModifyRule", &request).await;
    assert!(
        matches!(&refused, Err(MotoError::Refused { code, .. }) if code == "OperationNotPermitted"),
        "{refused:?}"
    );
    cloud.inject(Fault::on("DescribeRules").with(Effect::Refuse {
        status: 400,
        error: "Throttling".to_owned(),
        message: "Rate exceeded".to_owned(),
    }));
    let request = json!({"ListenerArn": listener["ListenerArn"]});
    let refused = hand.api.load_balancing("DescribeRules", &request).await;
    assert!(
        matches!(&refused, Err(MotoError::Refused { code, .. }) if code == "Throttling"),
        "{refused:?}"
    );
    assert!(cloud.calls().calls.iter().any(|call| {
        call.service == "elasticloadbalancing" && call.operation == "DescribeRules" && call.injected
    }));

    // A percentile is answered though moto cannot.
    let group = action["TargetGroupArn"].as_str().unwrap();
    let balancer = listener["LoadBalancerArn"].as_str().unwrap();
    let dimensions = json!([
        {"Name": "TargetGroup", "Value": metric_name(group)},
        {"Name": "LoadBalancer", "Value": metric_name(balancer)},
    ]);
    eventually("the response time's median is known", || async {
        let now = Timestamp::now().as_second();
        let metric = |name: &str| json!({"Namespace": "AWS/ApplicationELB", "MetricName": name, "Dimensions": dimensions});
        let request = json!({"StartTime": now - 120, "EndTime": now, "MetricDataQueries": [
            {"Id": "median", "MetricStat": {"Stat": "p50", "Period": 120, "Metric": metric("TargetResponseTime")}},
            {"Id": "requests", "MetricStat": {"Stat": "Sum", "Period": 120, "Metric": metric("RequestCount")}},
        ]});
        let answer = hand.api.call(Service::CloudWatch, "GetMetricData", &request).await.unwrap();
        let values = |index: usize| answer["MetricDataResults"][index]["Values"][0].as_f64();
        values(0).is_some_and(|median| median < 1.0) && values(1).is_some_and(|count| count > 100.0)
    })
    .await;
    cloud.stop().await;
}

/// The control: what a careless deployment loses is seen, by the callers and in the metrics.
#[tokio::test(flavor = "multi_thread")]
async fn traffic_for_a_group_whose_only_target_is_dead_is_lost_and_everybody_says_so() {
    let _room = CLOUDS.acquire().await.unwrap();
    let cloud = cloud().await;
    let mut hand = Hand::new(&cloud);
    let (stable, canary) = hand.copy_group().await;
    hand.weights("attach", (&stable, 999), (&canary, 0)).await;
    let dead = json!({"TargetGroupArn": canary, "Targets": [{"Id": "127.0.0.1", "Port": 1}]});
    hand.balancing("RegisterTargets", dead).await;
    hand.weights("to 10 %", (&stable, 900), (&canary, 100))
        .await;
    // Until it is known to be dead there is no target at all; then it is asked, because there is no better one.
    eventually("the target is unhealthy", || async {
        hand.healths(&canary).await == ["unhealthy"]
    })
    .await;
    let balancer = hand.listeners().await[0]["LoadBalancerArn"].clone();
    let balancer = metric_name(balancer.as_str().unwrap()).to_owned();
    let of_balancer = json!([{"Name": "LoadBalancer", "Value": balancer}]);
    let of_group = json!([
        {"Name": "TargetGroup", "Value": metric_name(&canary)}, {"Name": "LoadBalancer", "Value": balancer},
    ]);
    eventually("its metrics tell", || async {
        let now = Timestamp::now().as_second();
        let query = |id: &str, name: &str, dimensions: &Value, stat: &str| {
            let metric = json!({"Namespace": "AWS/ApplicationELB", "MetricName": name, "Dimensions": dimensions});
            json!({"Id": id, "MetricStat": {"Stat": stat, "Period": 300, "Metric": metric}})
        };
        let request = json!({"StartTime": now - 300, "EndTime": now, "MetricDataQueries": [
            query("a", "HTTPCode_ELB_503_Count", &of_balancer, "Sum"),
            query("b", "HTTPCode_ELB_502_Count", &of_balancer, "Sum"),
            query("c", "TargetConnectionErrorCount", &of_group, "Sum"),
            query("d", "RequestCount", &of_group, "Sum"),
            query("e", "UnHealthyHostCount", &of_group, "Maximum"),
            query("f", "HTTPCode_Target_5XX_Count", &of_group, "Sum"),
        ]});
        let answer = hand.api.call(Service::CloudWatch, "GetMetricData", &request).await.unwrap();
        let values: Vec<Option<f64>> = list(&answer["MetricDataResults"])
            .map(|result| result["Values"][0].as_f64())
            .collect();
        matches!(values[..], [Some(_), Some(own), Some(connections), Some(requests), Some(unhealthy), None]
            if own >= connections && connections >= requests && requests > 0.0 && unhealthy >= 1.0)
    })
    .await;
    let load = cloud.load_so_far().await;
    assert!(load.failed_by_deployment > 0);
    assert_eq!(load.failed_by_versions, 0);
    let causes = &load.by_kind[&ClientKind::Http2].failed_by_deployment;
    assert_eq!(
        causes.keys().collect::<Vec<_>>(),
        [&FailureCause::Router],
        "{:?}",
        load.examples
    );
    cloud.stop().await;
}
