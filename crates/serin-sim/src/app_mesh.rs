//! AWS App Mesh: meshes, virtual routers with their routes, virtual nodes.

use std::collections::BTreeMap;

use aws_sdk_appmesh::operation::create_virtual_node::{
    CreateVirtualNodeInput, CreateVirtualNodeOutput,
};
use aws_sdk_appmesh::operation::delete_virtual_node::{
    DeleteVirtualNodeInput, DeleteVirtualNodeOutput,
};
use aws_sdk_appmesh::operation::describe_route::{DescribeRouteInput, DescribeRouteOutput};
use aws_sdk_appmesh::operation::describe_virtual_node::{
    DescribeVirtualNodeInput, DescribeVirtualNodeOutput,
};
use aws_sdk_appmesh::operation::list_routes::{ListRoutesInput, ListRoutesOutput};
use aws_sdk_appmesh::operation::list_tags_for_resource::{
    ListTagsForResourceInput, ListTagsForResourceOutput,
};
use aws_sdk_appmesh::operation::list_virtual_routers::{
    ListVirtualRoutersInput, ListVirtualRoutersOutput,
};
use aws_sdk_appmesh::operation::update_route::{UpdateRouteInput, UpdateRouteOutput};
use aws_sdk_appmesh::types::{
    ResourceMetadata, RouteData, RouteRef, RouteSpec, RouteStatus, RouteStatusCode, TagRef,
    VirtualNodeData, VirtualNodeSpec, VirtualNodeStatus, VirtualNodeStatusCode, VirtualRouterRef,
    WeightedTarget,
};
use aws_smithy_types::DateTime;

use crate::account::{ACCOUNT, REGION};
use crate::paging::page;
use crate::wire::Refusal;
use crate::world::World;

/// The meshes of the account, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct AppMesh {
    pub(crate) meshes: BTreeMap<String, Mesh>,
    /// What each client token was used for; App Mesh remembers it.
    tokens: BTreeMap<(&'static str, String), TokenUse>,
    next_uid: u64,
}

/// One mesh.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mesh {
    pub(crate) owner: String,
    pub(crate) routers: BTreeMap<String, Router>,
    pub(crate) nodes: BTreeMap<String, (VirtualNodeData, Vec<TagRef>)>,
}

/// One virtual router.
#[derive(Debug, Clone)]
pub(crate) struct Router {
    metadata: ResourceMetadata,
    pub(crate) routes: BTreeMap<String, RouteData>,
}

#[derive(Debug, Clone, PartialEq)]
enum TokenUse {
    Route {
        route: (String, String, String),
        spec: Box<RouteSpec>,
    },
    Node {
        node: (String, String),
        spec: Box<VirtualNodeSpec>,
        tags: Vec<TagRef>,
    },
}

/// The targets of a route, whatever its protocol; `None` if it has no or more than one protocol.
pub fn targets(spec: &RouteSpec) -> Option<&[WeightedTarget]> {
    let http = [&spec.http_route, &spec.http2_route]
        .into_iter()
        .flatten()
        .map(|route| {
            route
                .action
                .as_ref()
                .map(|action| action.weighted_targets.as_slice())
                .unwrap_or_default()
        });
    let grpc = spec.grpc_route.iter().map(|route| {
        route
            .action
            .as_ref()
            .map(|action| action.weighted_targets.as_slice())
            .unwrap_or_default()
    });
    let tcp = spec.tcp_route.iter().map(|route| {
        route
            .action
            .as_ref()
            .map(|action| action.weighted_targets.as_slice())
            .unwrap_or_default()
    });
    let mut all = http.chain(grpc).chain(tcp);
    let first = all.next()?;
    all.next().is_none().then_some(first)
}

/// The same, to change them.
pub fn targets_mut(spec: &mut RouteSpec) -> Option<&mut Vec<WeightedTarget>> {
    if let Some(route) = spec.http_route.as_mut().or(spec.http2_route.as_mut()) {
        return route
            .action
            .as_mut()
            .map(|action| &mut action.weighted_targets);
    }
    if let Some(route) = spec.grpc_route.as_mut() {
        return route
            .action
            .as_mut()
            .map(|action| &mut action.weighted_targets);
    }
    spec.tcp_route
        .as_mut()?
        .action
        .as_mut()
        .map(|action| &mut action.weighted_targets)
}

impl AppMesh {
    pub(crate) fn add_mesh(&mut self, name: &str, owner: &str) {
        self.meshes.insert(
            name.to_owned(),
            Mesh {
                owner: owner.to_owned(),
                ..Mesh::default()
            },
        );
    }

    fn metadata(&mut self, mesh: &str, path: &str, now: i64) -> ResourceMetadata {
        self.next_uid += 1;
        let owner = self
            .meshes
            .get(mesh)
            .map_or(ACCOUNT, |mesh| mesh.owner.as_str())
            .to_owned();
        ResourceMetadata::builder()
            .arn(format!(
                "arn:aws:appmesh:{REGION}:{owner}:mesh/{mesh}/{path}"
            ))
            .version(1)
            .uid(format!("uid-{}", self.next_uid))
            .created_at(DateTime::from_secs(now))
            .last_updated_at(DateTime::from_secs(now))
            .mesh_owner(owner)
            .resource_owner(ACCOUNT)
            .build()
            .expect("all members are set")
    }

    pub(crate) fn add_router(&mut self, mesh: &str, name: &str, now: i64) {
        let metadata = self.metadata(mesh, &format!("virtualRouter/{name}"), now);
        let mesh = self
            .meshes
            .get_mut(mesh)
            .expect("the builder made the mesh");
        mesh.routers.insert(
            name.to_owned(),
            Router {
                metadata,
                routes: BTreeMap::new(),
            },
        );
    }

    pub(crate) fn add_route(
        &mut self,
        mesh: &str,
        router: &str,
        name: &str,
        spec: RouteSpec,
        now: i64,
    ) {
        check_spec(&self.meshes[mesh], &spec).expect("the builder's route is valid");
        let metadata = self.metadata(mesh, &format!("virtualRouter/{router}/route/{name}"), now);
        let data = RouteData::builder()
            .mesh_name(mesh)
            .virtual_router_name(router)
            .route_name(name)
            .spec(spec)
            .metadata(metadata)
            .status(
                RouteStatus::builder()
                    .status(RouteStatusCode::Active)
                    .build()
                    .expect("status is set"),
            )
            .build()
            .expect("all members are set");
        let mesh = self
            .meshes
            .get_mut(mesh)
            .expect("the builder made the mesh");
        mesh.routers
            .get_mut(router)
            .expect("the builder made the router")
            .routes
            .insert(name.to_owned(), data);
    }

    pub(crate) fn add_node(
        &mut self,
        mesh: &str,
        name: &str,
        spec: VirtualNodeSpec,
        tags: Vec<TagRef>,
        now: i64,
    ) -> VirtualNodeData {
        let metadata = self.metadata(mesh, &format!("virtualNode/{name}"), now);
        let data = VirtualNodeData::builder()
            .mesh_name(mesh)
            .virtual_node_name(name)
            .spec(spec)
            .metadata(metadata)
            .status(
                VirtualNodeStatus::builder()
                    .status(VirtualNodeStatusCode::Active)
                    .build()
                    .expect("status is set"),
            )
            .build()
            .expect("all members are set");
        let mesh = self.meshes.get_mut(mesh).expect("the mesh is there");
        mesh.nodes.insert(name.to_owned(), (data.clone(), tags));
        data
    }

    /// Every route of every mesh, with its mesh's, router's and own name.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &RouteData> {
        self.meshes
            .values()
            .flat_map(|mesh| mesh.routers.values())
            .flat_map(|router| router.routes.values())
    }

    pub(crate) fn route(&self, router: &str, route: &str) -> Option<&RouteData> {
        self.routes()
            .find(|data| data.virtual_router_name == router && data.route_name == route)
    }

    fn mesh(&self, name: Option<&str>, owner: Option<&str>) -> Result<&Mesh, Refusal> {
        let name = required("meshName", name)?;
        self.meshes
            .get(name)
            .filter(|mesh| mesh.owner == owner.unwrap_or(ACCOUNT))
            .ok_or_else(|| not_found(format!("There is no mesh with name {name}")))
    }
}

fn not_found(message: String) -> Refusal {
    Refusal::new("NotFoundException", message).status(404)
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new("BadRequestException", message)
}

fn conflict(message: impl Into<String>) -> Refusal {
    Refusal::new("ConflictException", message).status(409)
}

fn required<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str, Refusal> {
    match value {
        Some(value) if (1..=255).contains(&value.len()) => Ok(value),
        Some(value) => Err(bad(format!(
            "{name} must have 1 to 255 characters: {value:?}"
        ))),
        None => Err(bad(format!("{name} is required"))),
    }
}

fn check_token(token: Option<&str>) -> Result<(), Refusal> {
    let valid = |token: &str| {
        (1..=36).contains(&token.len())
            && token
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    match token {
        Some(token) if !valid(token) => Err(bad(format!(
            "clientToken must be 1 to 36 of [A-Za-z0-9-_]: {token:?}"
        ))),
        _ => Ok(()),
    }
}

/// App Mesh's rules for a route.
fn check_spec(mesh: &Mesh, spec: &RouteSpec) -> Result<(), Refusal> {
    let targets = targets(spec).ok_or_else(|| {
        bad("spec must have exactly one of httpRoute, http2Route, grpcRoute, tcpRoute")
    })?;
    if !(1..=10).contains(&targets.len()) {
        return Err(bad(format!(
            "weightedTargets must have 1 to 10 members, not {}",
            targets.len()
        )));
    }
    if let Some(target) = targets
        .iter()
        .find(|target| !(0..=100).contains(&target.weight))
    {
        return Err(bad(format!(
            "weight must be between 0 and 100, not {}",
            target.weight
        )));
    }
    let sum: i32 = targets.iter().map(|target| target.weight).sum();
    if sum > 100 {
        return Err(bad(format!(
            "the sum of the weights must not be above 100, but is {sum}"
        )));
    }
    if let Some(priority) = spec
        .priority
        .filter(|priority| !(0..=1000).contains(priority))
    {
        return Err(bad(format!(
            "priority must be between 0 and 1000, not {priority}"
        )));
    }
    let mut names: Vec<(&str, Option<i32>)> = targets
        .iter()
        .map(|target| (target.virtual_node.as_str(), target.port))
        .collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(bad("weightedTargets names a virtual node twice"));
    }
    for target in targets {
        if !mesh.nodes.contains_key(&target.virtual_node) {
            return Err(not_found(format!(
                "There is no virtual node with name {}",
                target.virtual_node
            )));
        }
    }
    Ok(())
}

pub(crate) fn list_virtual_routers(
    world: &mut World,
    input: &ListVirtualRoutersInput,
) -> Result<ListVirtualRoutersOutput, Refusal> {
    let mesh = world.app_mesh.mesh(input.mesh_name(), input.mesh_owner())?;
    let all: Vec<VirtualRouterRef> = mesh
        .routers
        .iter()
        .map(|(name, router)| {
            VirtualRouterRef::builder()
                .mesh_name(input.mesh_name().unwrap_or_default())
                .virtual_router_name(name)
                .mesh_owner(&mesh.owner)
                .resource_owner(ACCOUNT)
                .arn(&router.metadata.arn)
                .version(router.metadata.version)
                .created_at(router.metadata.created_at)
                .last_updated_at(router.metadata.last_updated_at)
                .build()
                .expect("all members are set")
        })
        .collect();
    let (items, next) = page(
        &all,
        world.settings.page_size,
        input.limit(),
        input.next_token(),
    )
    .ok_or_else(|| bad("nextToken"))?;
    Ok(ListVirtualRoutersOutput::builder()
        .set_virtual_routers(Some(items))
        .set_next_token(next)
        .build()
        .expect("items are set"))
}

pub(crate) fn list_routes(
    world: &mut World,
    input: &ListRoutesInput,
) -> Result<ListRoutesOutput, Refusal> {
    let mesh = world.app_mesh.mesh(input.mesh_name(), input.mesh_owner())?;
    let router = router(mesh, input.virtual_router_name())?;
    let all: Vec<RouteRef> = router
        .routes
        .values()
        .map(|route| {
            let metadata = route.metadata.as_ref().expect("every route has metadata");
            RouteRef::builder()
                .mesh_name(&route.mesh_name)
                .virtual_router_name(&route.virtual_router_name)
                .route_name(&route.route_name)
                .mesh_owner(&metadata.mesh_owner)
                .resource_owner(&metadata.resource_owner)
                .arn(&metadata.arn)
                .version(metadata.version)
                .created_at(metadata.created_at)
                .last_updated_at(metadata.last_updated_at)
                .build()
                .expect("all members are set")
        })
        .collect();
    let (items, next) = page(
        &all,
        world.settings.page_size,
        input.limit(),
        input.next_token(),
    )
    .ok_or_else(|| bad("nextToken"))?;
    Ok(ListRoutesOutput::builder()
        .set_routes(Some(items))
        .set_next_token(next)
        .build()
        .expect("items are set"))
}

fn router<'a>(mesh: &'a Mesh, name: Option<&str>) -> Result<&'a Router, Refusal> {
    let name = required("virtualRouterName", name)?;
    mesh.routers
        .get(name)
        .ok_or_else(|| not_found(format!("There is no virtual router with name {name}")))
}

pub(crate) fn describe_route(
    world: &mut World,
    input: &DescribeRouteInput,
) -> Result<DescribeRouteOutput, Refusal> {
    let mesh = world.app_mesh.mesh(input.mesh_name(), input.mesh_owner())?;
    let router = router(mesh, input.virtual_router_name())?;
    let name = required("routeName", input.route_name())?;
    let route = router
        .routes
        .get(name)
        .ok_or_else(|| not_found(format!("There is no route with name {name}")))?;
    Ok(DescribeRouteOutput::builder().route(route.clone()).build())
}

pub(crate) fn update_route(
    world: &mut World,
    input: &UpdateRouteInput,
) -> Result<UpdateRouteOutput, Refusal> {
    let mesh = world.app_mesh.mesh(input.mesh_name(), input.mesh_owner())?;
    let name = required("routeName", input.route_name())?;
    let route = router(mesh, input.virtual_router_name())?
        .routes
        .get(name)
        .ok_or_else(|| not_found(format!("There is no route with name {name}")))?;
    let spec = input.spec().ok_or_else(|| bad("spec is required"))?;
    check_spec(mesh, spec)?;
    check_token(input.client_token())?;
    let path = (
        route.mesh_name.clone(),
        route.virtual_router_name.clone(),
        name.to_owned(),
    );
    if let Some(token) = input.client_token() {
        let usage = TokenUse::Route {
            route: path.clone(),
            spec: Box::new(spec.clone()),
        };
        match world
            .app_mesh
            .tokens
            .get(&("UpdateRoute", token.to_owned()))
        {
            Some(earlier) if *earlier == usage => {
                // The same request again: it is answered, and not done again.
                return Ok(UpdateRouteOutput::builder().route(route.clone()).build());
            }
            Some(_) => {
                return Err(conflict(
                    "The client token was already used with a different request",
                ));
            }
            None => {
                world
                    .app_mesh
                    .tokens
                    .insert(("UpdateRoute", token.to_owned()), usage);
            }
        }
    }
    let data = world.write_route(&path, spec.clone());
    Ok(UpdateRouteOutput::builder().route(data).build())
}

impl World {
    /// Writes a route as `UpdateRoute` does.
    pub(crate) fn write_route(
        &mut self,
        (mesh, router, name): &(String, String, String),
        spec: RouteSpec,
    ) -> RouteData {
        let now = self.now();
        let mesh = self
            .app_mesh
            .meshes
            .get_mut(mesh)
            .expect("the caller found the route");
        let router = mesh
            .routers
            .get_mut(router)
            .expect("the caller found the route");
        let data = router
            .routes
            .get_mut(name)
            .expect("the caller found the route");
        data.spec = Some(spec);
        let metadata = data.metadata.as_mut().expect("every route has metadata");
        metadata.version += 1;
        metadata.last_updated_at = DateTime::from_secs(now);
        data.clone()
    }
}

pub(crate) fn describe_virtual_node(
    world: &mut World,
    input: &DescribeVirtualNodeInput,
) -> Result<DescribeVirtualNodeOutput, Refusal> {
    let mesh = world.app_mesh.mesh(input.mesh_name(), input.mesh_owner())?;
    let name = required("virtualNodeName", input.virtual_node_name())?;
    let (node, _) = mesh
        .nodes
        .get(name)
        .ok_or_else(|| not_found(format!("There is no virtual node with name {name}")))?;
    Ok(DescribeVirtualNodeOutput::builder()
        .virtual_node(node.clone())
        .build())
}

pub(crate) fn create_virtual_node(
    world: &mut World,
    input: &CreateVirtualNodeInput,
) -> Result<CreateVirtualNodeOutput, Refusal> {
    let now = world.now();
    let mesh_name = input.mesh_name().unwrap_or_default().to_owned();
    let mesh = world.app_mesh.mesh(input.mesh_name(), input.mesh_owner())?;
    let name = required("virtualNodeName", input.virtual_node_name())?.to_owned();
    let spec = input.spec().ok_or_else(|| bad("spec is required"))?.clone();
    let tags = input.tags().to_vec();
    if let Some(tag) = tags
        .iter()
        .find(|tag| tag.key.starts_with("aws:") || tag.key.len() > 128 || tag.value.len() > 256)
    {
        return Err(bad(format!("tag {} is not allowed", tag.key)));
    }
    check_token(input.client_token())?;
    let usage = TokenUse::Node {
        node: (mesh_name.clone(), name.clone()),
        spec: Box::new(spec.clone()),
        tags: tags.clone(),
    };
    let key = input
        .client_token()
        .map(|token| ("CreateVirtualNode", token.to_owned()));
    match key.as_ref().and_then(|key| world.app_mesh.tokens.get(key)) {
        Some(earlier) if *earlier == usage => {
            if let Some((node, _)) = mesh.nodes.get(&name) {
                return Ok(CreateVirtualNodeOutput::builder()
                    .virtual_node(node.clone())
                    .build());
            }
        }
        Some(_) => {
            return Err(conflict(
                "The client token was already used with a different request",
            ));
        }
        None => {}
    }
    if mesh.nodes.contains_key(&name) {
        return Err(conflict(format!("The virtual node {name} already exists")));
    }
    if let Some(key) = key {
        world.app_mesh.tokens.insert(key, usage);
    }
    let data = world.app_mesh.add_node(&mesh_name, &name, spec, tags, now);
    Ok(CreateVirtualNodeOutput::builder()
        .virtual_node(data)
        .build())
}

pub(crate) fn delete_virtual_node(
    world: &mut World,
    input: &DeleteVirtualNodeInput,
) -> Result<DeleteVirtualNodeOutput, Refusal> {
    let mesh_name = input.mesh_name().unwrap_or_default().to_owned();
    let mesh = world.app_mesh.mesh(input.mesh_name(), input.mesh_owner())?;
    let name = required("virtualNodeName", input.virtual_node_name())?;
    if !mesh.nodes.contains_key(name) {
        return Err(not_found(format!(
            "There is no virtual node with name {name}"
        )));
    }
    let mut routes = mesh
        .routers
        .values()
        .flat_map(|router| router.routes.values());
    if let Some(route) = routes.find(|route| {
        let targets = route.spec.as_ref().and_then(targets).unwrap_or_default();
        targets.iter().any(|target| target.virtual_node == name)
    }) {
        let message = format!(
            "The virtual node {name} is in use by the route {}",
            route.route_name
        );
        return Err(Refusal::new("ResourceInUseException", message).status(409));
    }
    let mesh = world
        .app_mesh
        .meshes
        .get_mut(&mesh_name)
        .expect("it was found above");
    let (mut data, _) = mesh.nodes.remove(name).expect("it was found above");
    data.status = Some(
        VirtualNodeStatus::builder()
            .status(VirtualNodeStatusCode::Deleted)
            .build()
            .expect("status is set"),
    );
    Ok(DeleteVirtualNodeOutput::builder()
        .virtual_node(data)
        .build())
}

pub(crate) fn list_tags_for_resource(
    world: &mut World,
    input: &ListTagsForResourceInput,
) -> Result<ListTagsForResourceOutput, Refusal> {
    let arn = input
        .resource_arn()
        .ok_or_else(|| bad("resourceArn is required"))?;
    let has_arn = |metadata: &Option<ResourceMetadata>| {
        metadata
            .as_ref()
            .is_some_and(|metadata| metadata.arn == arn)
    };
    let nodes = world
        .app_mesh
        .meshes
        .values()
        .flat_map(|mesh| mesh.nodes.values());
    let tags = nodes
        .into_iter()
        .find(|(node, _)| has_arn(&node.metadata))
        .map(|(_, tags)| tags.clone());
    let tags = tags.or_else(|| {
        world
            .app_mesh
            .routes()
            .any(|route| has_arn(&route.metadata))
            .then(Vec::new)
    });
    let tags = tags.ok_or_else(|| not_found(format!("There is no resource with ARN {arn}")))?;
    let (items, next) = page(
        &tags,
        world.settings.page_size,
        input.limit(),
        input.next_token(),
    )
    .ok_or_else(|| bad("nextToken"))?;
    Ok(ListTagsForResourceOutput::builder()
        .set_tags(Some(items))
        .set_next_token(next)
        .build()
        .expect("items are set"))
}
