//! The routes: read, written, compared with what was last written.
//!
//! App Mesh has no conditional update. So every write is made of what was read just before, all but the weighted targets as
//! it was, and what was read must be what Serin last wrote.

use std::fmt::Write;

use aws_sdk_appmesh::types::{RouteSpec, RouteStatusCode, WeightedTarget as MeshTarget};
use jiff::Timestamp;
use serin::ports::{Settled, ShiftError, Side};
use serin::routing::{AppMeshRecord, RouteRecord, WeightedTarget};
use serin::{Deployment, ExecutionArn, Leftover, PortError, Split, Weight};
use sha2::{Digest, Sha256};

use super::AppMeshRouter;
use crate::error::{failed, is_not_found, refused};

/// A route as it is now.
#[derive(Debug, Clone)]
pub(super) struct Live {
    spec: RouteSpec,
    pub(super) version: i64,
    updated_at: Option<Timestamp>,
    pub(super) protocol: &'static str,
    pub(super) targets: Vec<WeightedTarget>,
}

impl Live {
    /// A digest of everything in the route but its weighted targets.
    ///
    /// Of the SDK's debug text: it has every member that the SDK knows, without a list of ours that could miss one. Another
    /// version of the SDK may print another text; then a deployment that was planned before is rolled back as if somebody
    /// had changed the route, which is safe.
    pub(super) fn fingerprint(&self) -> String {
        hex(
            format!("{:?}", with_targets(self.spec.clone(), Vec::new())).as_bytes(),
            32,
        )
    }

    fn is(&self, route: &RouteRecord, targets: &[WeightedTarget]) -> bool {
        self.is_otherwise(route) && same(&self.targets, targets)
    }

    /// Whether all but the targets is as it was.
    fn is_otherwise(&self, route: &RouteRecord) -> bool {
        self.fingerprint() == route.fingerprint
    }
}

impl AppMeshRouter {
    /// A route; `None` if there is none of that name, or it is deleted.
    pub(super) async fn describe_route(
        &self,
        record: &AppMeshRecord,
        virtual_router: &str,
        route: &str,
    ) -> Result<Option<Live>, PortError> {
        const CALL: &str = "App Mesh DescribeRoute";
        let request = self
            .app_mesh
            .describe_route()
            .mesh_name(&record.mesh)
            .set_mesh_owner(record.mesh_owner.clone());
        let answer = match request
            .virtual_router_name(virtual_router)
            .route_name(route)
            .send()
            .await
        {
            Err(error) if is_not_found(&error) => return Ok(None),
            answer => answer.map_err(failed(CALL))?,
        };
        let Some(data) = answer.route else {
            return Ok(None);
        };
        if data
            .status()
            .is_some_and(|status| *status.status() == RouteStatusCode::Deleted)
        {
            return Ok(None);
        }
        let unread = || {
            refused(
                CALL,
                format!(
                    "route {route} of virtual router {virtual_router} has no targets that Serin knows"
                ),
            )
        };
        let spec = data.spec.ok_or_else(unread)?;
        let (protocol, targets) = targets_of(&spec).ok_or_else(unread)?;
        let targets = targets.iter().map(from_mesh).collect();
        Ok(Some(Live {
            version: data
                .metadata
                .as_ref()
                .map_or(0, |metadata| metadata.version),
            updated_at: data
                .metadata
                .and_then(|metadata| Timestamp::from_second(metadata.last_updated_at.secs()).ok()),
            protocol,
            targets,
            spec,
        }))
    }

    /// Writes these targets into the route, all else as it was read.
    async fn update_route(
        &self,
        deployment: &Deployment,
        record: &AppMeshRecord,
        route: &RouteRecord,
        live: &Live,
        targets: &[WeightedTarget],
        step: &str,
    ) -> Result<(), PortError> {
        let spec = with_targets(live.spec.clone(), targets.iter().map(to_mesh).collect());
        let request = self
            .app_mesh
            .update_route()
            .mesh_name(&record.mesh)
            .set_mesh_owner(record.mesh_owner.clone())
            .virtual_router_name(&route.virtual_router)
            .route_name(&route.route)
            .client_token(token(deployment, route, live.version, step))
            .spec(spec);
        request
            .send()
            .await
            .map_err(failed("App Mesh UpdateRoute"))?;
        Ok(())
    }

    /// Moves every route from one weight to another; see [`serin::TrafficRouter::shift`].
    ///
    /// All routes are read before the first is written: if somebody else changed one of them, none is written.
    /// App Mesh's reads may lag, so [`ShiftError::NotReadBack`] may be no more than a read that came too early: calling again
    /// is right, and writes nothing if the weights have arrived.
    pub(super) async fn shift_routes(
        &self,
        deployment: &Deployment,
        record: &AppMeshRecord,
        from: Weight,
        to: Weight,
    ) -> Result<Option<Timestamp>, ShiftError> {
        let (mut to_write, mut shifted_at) = (Vec::new(), None);
        for route in &record.routes {
            let (before, after) = (
                targets_at(record, route, deployment.split_at(from))?,
                targets_at(record, route, deployment.split_at(to))?,
            );
            match self
                .describe_route(record, &route.virtual_router, &route.route)
                .await?
            {
                Some(live) if live.is(route, &after) => {
                    shifted_at = shifted_at.max(live.updated_at);
                }
                Some(live) if live.is(route, &before) => to_write.push((route, live, after)),
                live => {
                    return Err(ShiftError::ChangedByOthers(changed(
                        route,
                        &before,
                        live.as_ref(),
                    )));
                }
            }
        }
        let step = to.tenths().to_string();
        for (route, live, after) in &to_write {
            self.update_route(deployment, record, route, live, after, &step)
                .await?;
            match self
                .describe_route(record, &route.virtual_router, &route.route)
                .await?
            {
                Some(live) if live.is(route, after) => {
                    shifted_at = shifted_at.max(live.updated_at);
                }
                live => {
                    return Err(ShiftError::NotReadBack(not_read_back(
                        route,
                        after,
                        live.as_ref(),
                    )));
                }
            }
        }
        Ok(shifted_at)
    }

    /// Proves that every route still is at `weight`.
    pub(super) async fn verify_routes(
        &self,
        record: &AppMeshRecord,
        split: Split,
    ) -> Result<(), ShiftError> {
        for route in &record.routes {
            let expected = targets_at(record, route, split)?;
            match self
                .describe_route(record, &route.virtual_router, &route.route)
                .await?
            {
                Some(live) if live.is(route, &expected) => {}
                live => {
                    return Err(ShiftError::ChangedByOthers(changed(
                        route,
                        &expected,
                        live.as_ref(),
                    )));
                }
            }
        }
        Ok(())
    }

    /// Gives all the traffic of both sides to one, in every route.
    ///
    /// A route that cannot be written keeps none of the others from it: each one less is traffic that is where it belongs.
    pub(super) async fn settle_routes(
        &self,
        deployment: &Deployment,
        record: &AppMeshRecord,
        on: Side,
    ) -> Result<Settled, PortError> {
        let mut settled = Settled::default();
        let mut first_error = None;
        for route in &record.routes {
            match self.settle_route(deployment, record, route, on).await {
                Ok((wrote, sentence)) => {
                    settled.wrote |= wrote;
                    settled.edited.extend(sentence);
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(settled), Err)
    }

    /// Whether the route had to be written, and what to tell about it.
    async fn settle_route(
        &self,
        deployment: &Deployment,
        record: &AppMeshRecord,
        route: &RouteRecord,
        on: Side,
    ) -> Result<(bool, Option<String>), PortError> {
        let Some(live) = self
            .describe_route(record, &route.virtual_router, &route.route)
            .await?
        else {
            let sentence = format!("{} no longer exists; somebody else removed it", name(route));
            return Ok((false, Some(sentence)));
        };
        let Wanted { targets, sentence } = settle(deployment, record, route, &live, on);
        if same(&targets, &live.targets) {
            return Ok((false, sentence));
        }
        self.update_route(deployment, record, route, &live, &targets, &on.to_string())
            .await?;
        let read = self
            .describe_route(record, &route.virtual_router, &route.route)
            .await?;
        if read
            .as_ref()
            .is_some_and(|read| same(&read.targets, &targets))
        {
            return Ok((true, sentence));
        }
        // Worth trying again: the read may have come too early.
        let message = not_read_back(route, &targets, read.as_ref());
        Err(PortError::Unavailable {
            call: "App Mesh DescribeRoute".to_owned(),
            message,
        })
    }

    /// Whether the route still names a side. What others have changed is not a trace of the deployment.
    pub(super) async fn route_names(
        &self,
        record: &AppMeshRecord,
        route: &RouteRecord,
        side: Side,
    ) -> Result<bool, PortError> {
        let live = self
            .describe_route(record, &route.virtual_router, &route.route)
            .await?;
        let is_of = |target: &WeightedTarget| target.node == record.node(side);
        Ok(live.is_some_and(|live| live.targets.iter().any(is_of)))
    }
}

/// What a route is to have once one side has all the traffic, and what to tell about it.
struct Wanted {
    targets: Vec<WeightedTarget>,
    sentence: Option<String>,
}

fn settle(
    deployment: &Deployment,
    record: &AppMeshRecord,
    route: &RouteRecord,
    live: &Live,
    on: Side,
) -> Wanted {
    let (keep, drop) = match on {
        Side::Stable => (&record.stable_node, &record.canary_node),
        Side::Canary => (&record.canary_node, &record.stable_node),
    };
    // The route as it was, with the side that stays in stable's place.
    let with = |node: &String| {
        let mut targets = route.targets.clone();
        targets[route.stable_target].node.clone_from(node);
        targets
    };
    let settled = with(keep);
    let mut own = deployment
        .splits()
        .filter_map(|split| route.targets_at(split, record))
        .chain([settled.clone(), with(drop)]);
    if own.any(|targets| same(&live.targets, &targets)) {
        let edit = "what it matches, its retries, timeouts or priority";
        let sentence = (!live.is_otherwise(route)).then(|| {
            format!(
                "somebody else changed {edit} in {}; that stays",
                name(route)
            )
        });
        return Wanted {
            targets: settled,
            sentence,
        };
    }
    let mut targets = fold(&live.targets, keep, drop);
    if deployment.baseline.is_some() {
        targets = fold(&targets, keep, &record.baseline.node);
    }
    let what = if same(&targets, &live.targets) {
        "that stays".to_owned()
    } else {
        format!("the share of {drop} goes to {keep}, and the rest stays")
    };
    let sentence = format!(
        "somebody else changed {}, which has {} (App Mesh's version {}); {what}",
        name(route),
        text(&live.targets),
        live.version
    );
    Wanted {
        targets,
        sentence: Some(sentence),
    }
}

/// The targets with the share of `drop` added to that of `keep`, all others as they are.
fn fold(targets: &[WeightedTarget], keep: &str, drop: &str) -> Vec<WeightedTarget> {
    let dropped: u32 = targets
        .iter()
        .filter(|target| target.node == drop)
        .map(|target| target.weight)
        .sum();
    let mut folded = targets.to_vec();
    if let Some(kept) = folded.iter_mut().find(|target| target.node == keep) {
        kept.weight += dropped;
        folded.retain(|target| target.node != drop);
    } else if let Some(first) = folded.iter().position(|target| target.node == drop) {
        // Whoever changed the route took out the side that stays; its place is that of the side that goes.
        folded[first] = WeightedTarget {
            node: keep.to_owned(),
            weight: dropped,
            port: folded[first].port,
        };
        folded.retain(|target| target.node != drop);
    }
    folded
}

fn targets_at(
    record: &AppMeshRecord,
    route: &RouteRecord,
    split: Split,
) -> Result<Vec<WeightedTarget>, PortError> {
    route.targets_at(split, record).ok_or_else(|| {
        refused(
            "App Mesh UpdateRoute",
            format!("{} cannot express {} percent", name(route), split.canary),
        )
    })
}

/// The token of a write: the same for a repetition of it, and another one as soon as the route has been written by anybody.
///
/// App Mesh takes a token that it knows for a repetition and writes nothing, so a token must not come back for a later
/// write of the same weights.
fn token(deployment: &Deployment, route: &RouteRecord, version: i64, step: &str) -> String {
    let what = hex(
        format!("{}/{}/{version}", route.virtual_router, route.route).as_bytes(),
        4,
    );
    format!("{}-{step}-{what}", deployment.id)
}

fn hex(bytes: &[u8], digest_bytes: usize) -> String {
    let mut text = String::with_capacity(2 * digest_bytes);
    for byte in Sha256::digest(bytes).iter().take(digest_bytes) {
        write!(text, "{byte:02x}").expect("a String takes everything");
    }
    text
}

fn changed(route: &RouteRecord, written: &[WeightedTarget], live: Option<&Live>) -> String {
    let written = text(written);
    let Some(live) = live else {
        return format!(
            "somebody else removed {}; Serin last wrote {written}",
            name(route)
        );
    };
    let more = if live.is_otherwise(route) {
        "nothing but the weights differs"
    } else {
        "what it matches, its retries, timeouts or priority differ too"
    };
    format!(
        "somebody else changed {}: Serin last wrote {written}, and now it has {} (App Mesh's version {}); {more}",
        name(route),
        text(&live.targets),
        live.version
    )
}

fn not_read_back(route: &RouteRecord, written: &[WeightedTarget], live: Option<&Live>) -> String {
    let read = live.map_or_else(
        || "nothing".to_owned(),
        |live| {
            format!(
                "{} (App Mesh's version {})",
                text(&live.targets),
                live.version
            )
        },
    );
    format!(
        "{} was given {} and then showed {read}",
        name(route),
        text(written)
    )
}

/// A route as sentences name it.
pub(super) fn name(route: &RouteRecord) -> String {
    format!(
        "route {} of virtual router {}",
        route.route, route.virtual_router
    )
}

/// Targets as sentences name them: `checkout 95, checkout-canary-1a2b3c4d 5`.
fn text(targets: &[WeightedTarget]) -> String {
    let targets: Vec<_> = targets
        .iter()
        .map(|target| match target.port {
            Some(port) => format!("{}:{port} {}", target.node, target.weight),
            None => format!("{} {}", target.node, target.weight),
        })
        .collect();
    targets.join(", ")
}

/// A route that may still name a side, in the words of one who has to mend it by hand: for the canary with the route's
/// original weights.
pub(super) fn leftover(
    deployment: &Deployment,
    record: &AppMeshRecord,
    route: &RouteRecord,
    side: Side,
) -> Leftover {
    let path = format!(
        "virtualRouter/{}/route/{}",
        route.virtual_router, route.route
    );
    let command = match side {
        Side::Canary => original_weights(record, route),
        Side::Stable => deployment.roll_back_command(),
    };
    Leftover {
        arn: arn_in_mesh(record, &deployment.execution, &path),
        what: format!(
            "{} may still send traffic to {}",
            name(route),
            record.node(side)
        ),
        command,
    }
}

/// The command that gives a route its original weights.
fn original_weights(record: &AppMeshRecord, route: &RouteRecord) -> String {
    let options = format!(
        "{} --virtual-router-name {} --route-name {}",
        mesh_options(record),
        route.virtual_router,
        route.route
    );
    let targets: Vec<_> = route
        .targets
        .iter()
        .map(|target| {
            let port = target
                .port
                .map_or_else(String::new, |port| format!(r#","port":{port}"#));
            format!(
                r#"{{"virtualNode":"{}","weight":{}{port}}}"#,
                target.node, target.weight
            )
        })
        .collect();
    // The spec is read where the command runs, so that it keeps everything but the targets.
    let spec = format!(
        "$(aws appmesh describe-route {options} --query route.spec --output json | jq '.{}Route.action.weightedTargets = [{}]')",
        route.protocol,
        targets.join(",")
    );
    format!(r#"aws appmesh update-route {options} --spec "{spec}""#)
}

/// The ARN of something in the mesh, which belongs to the mesh's owner.
pub(super) fn arn_in_mesh(record: &AppMeshRecord, execution: &ExecutionArn, path: &str) -> String {
    let owner = record.mesh_owner.as_deref();
    execution.arn_beside("appmesh", owner, &format!("mesh/{}/{path}", record.mesh))
}

/// The options that name the mesh in every command.
pub(super) fn mesh_options(record: &AppMeshRecord) -> String {
    match &record.mesh_owner {
        Some(owner) => format!("--mesh-name {} --mesh-owner {owner}", record.mesh),
        None => format!("--mesh-name {}", record.mesh),
    }
}

/// Whether the same targets have the same weights; their order means nothing to App Mesh.
fn same(one: &[WeightedTarget], other: &[WeightedTarget]) -> bool {
    let sorted = |targets: &[WeightedTarget]| {
        let mut keys: Vec<_> = targets
            .iter()
            .map(|target| (target.node.clone(), target.port, target.weight))
            .collect();
        keys.sort();
        keys
    };
    sorted(one) == sorted(other)
}

fn targets_of(spec: &RouteSpec) -> Option<(&'static str, &[MeshTarget])> {
    if let Some(route) = &spec.http_route {
        return Some(("http", &route.action.as_ref()?.weighted_targets));
    }
    if let Some(route) = &spec.http2_route {
        return Some(("http2", &route.action.as_ref()?.weighted_targets));
    }
    if let Some(route) = &spec.grpc_route {
        return Some(("grpc", &route.action.as_ref()?.weighted_targets));
    }
    let route = spec.tcp_route.as_ref()?;
    Some(("tcp", &route.action.as_ref()?.weighted_targets))
}

/// The spec with other targets, and all else as it is.
fn with_targets(mut spec: RouteSpec, targets: Vec<MeshTarget>) -> RouteSpec {
    let http = spec.http_route.as_mut().or(spec.http2_route.as_mut());
    if let Some(action) = http.and_then(|route| route.action.as_mut()) {
        action.weighted_targets = targets;
    } else if let Some(action) = spec
        .grpc_route
        .as_mut()
        .and_then(|route| route.action.as_mut())
    {
        action.weighted_targets = targets;
    } else if let Some(action) = spec
        .tcp_route
        .as_mut()
        .and_then(|route| route.action.as_mut())
    {
        action.weighted_targets = targets;
    }
    spec
}

fn from_mesh(target: &MeshTarget) -> WeightedTarget {
    WeightedTarget {
        node: target.virtual_node.clone(),
        weight: u32::try_from(target.weight).unwrap_or(0),
        port: target.port.and_then(|port| u16::try_from(port).ok()),
    }
}

fn to_mesh(target: &WeightedTarget) -> MeshTarget {
    MeshTarget::builder()
        .virtual_node(&target.node)
        .weight(i32::try_from(target.weight).expect("a weight is at most 100"))
        .set_port(target.port.map(i32::from))
        .build()
        .expect("node and weight are given")
}

#[cfg(test)]
mod tests;
