//! What other people do to the service's route or rule, on each router.

use std::collections::BTreeMap;

use serin_sim::{Actions, RouteSpec, targets_mut, tuples_mut, world};

use crate::simulation::{On, Simulation};

/// All that sends traffic to the service, as it was at one moment.
#[derive(Debug, Clone, PartialEq)]
pub enum Route {
    /// The route of the mesh.
    Mesh(Box<RouteSpec>),
    /// The actions of every rule that forwards, by its path.
    Alb(BTreeMap<String, Actions>),
}

/// Edits that are none of the weights: a route's priority, and what a rule asks of the user before it forwards.
const PRIORITY: i32 = 7;
const SCOPE: &str = "openid email";

impl Simulation {
    /// The route as it is now.
    pub fn route(&self) -> Route {
        self.account.look(|world| match self.on {
            On::AppMesh => Route::Mesh(Box::new(
                world
                    .route(world::ROUTER, world::ROUTE)
                    .spec
                    .clone()
                    .unwrap(),
            )),
            On::Alb => Route::Alb(
                [world::RULE, world::DEFAULT_RULE]
                    .map(|path| (path.to_owned(), world.rule(path).actions.unwrap()))
                    .into(),
            ),
        })
    }

    /// Somebody puts the route back as it was.
    pub fn put_route(&self, route: &Route) {
        match route {
            Route::Mesh(before) => {
                self.account
                    .edit_route_by_hand(world::ROUTER, world::ROUTE, |spec| {
                        *spec = (**before).clone();
                    });
            }
            Route::Alb(rules) => {
                for (path, before) in rules {
                    self.account
                        .edit_rule_by_hand(path, |actions| actions.clone_from(before));
                }
            }
        }
    }

    /// Somebody gives stable all the weight, and leaves the canary in the route without any.
    pub fn give_all_to_stable_by_hand(&self) {
        match self.on {
            On::AppMesh => {
                self.account
                    .edit_route_by_hand(world::ROUTER, world::ROUTE, |spec| {
                        for target in targets_mut(spec).unwrap() {
                            target.weight = i32::from(target.virtual_node == world::NODE);
                        }
                    });
            }
            On::Alb => {
                let stable = self.account.look(|world| {
                    let group = world.target_group(world::TARGET_GROUP).unwrap();
                    group.target_group_arn
                });
                for path in [world::RULE, world::DEFAULT_RULE] {
                    self.account.edit_rule_by_hand(path, |actions| {
                        for tuple in tuples_mut(actions).unwrap() {
                            tuple.weight = Some(i32::from(tuple.target_group_arn == stable));
                        }
                    });
                }
            }
        }
    }

    /// Somebody changes something else than the weights, which is right from then on.
    pub fn edit_something_else(&self) {
        match self.on {
            On::AppMesh => {
                self.account
                    .edit_route_by_hand(world::ROUTER, world::ROUTE, |spec| {
                        spec.priority = Some(PRIORITY);
                    });
                self.watch.change(|subject| {
                    for (path, spec) in &mut subject.before.routes {
                        if path.ends_with(world::ROUTE) {
                            spec.priority = Some(PRIORITY);
                        }
                    }
                });
            }
            On::Alb => {
                self.account.edit_rule_by_hand(world::RULE, set_scope);
                self.watch.change(|subject| {
                    let rule = subject.before.rules.get_mut(world::RULE).unwrap();
                    set_scope(rule.actions.as_mut().unwrap());
                });
            }
        }
    }

    /// Whether that is still so.
    pub fn has_something_else(&self) -> bool {
        match self.route() {
            Route::Mesh(spec) => spec.priority == Some(PRIORITY),
            Route::Alb(rules) => rules[world::RULE].iter().any(|action| {
                action
                    .authenticate_oidc_config
                    .as_ref()
                    .is_some_and(|oidc| oidc.scope.as_deref() == Some(SCOPE))
            }),
        }
    }

    /// The mesh's only node of the service, for the next deployment; a load balancer's groups are found by themselves.
    pub fn only_node(&self) -> String {
        self.account.look(|world| match self.on {
            On::AppMesh => {
                let weights = world.weights(world::ROUTER, world::ROUTE);
                weights.into_keys().next().unwrap()
            }
            On::Alb => String::new(),
        })
    }
}

fn set_scope(actions: &mut Actions) {
    for action in actions {
        if let Some(oidc) = &mut action.authenticate_oidc_config {
            oidc.scope = Some(SCOPE.to_owned());
        }
    }
}
