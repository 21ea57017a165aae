//! One AWS account in one region, in memory.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use serin_aws::Clients;

use crate::answering::{Answer, Handle, Slot};
use crate::clients;
use crate::clock::Clock;
use crate::fault::{Fault, FaultKind, Faults, Killed};
use crate::settings::Settings;
use crate::wire::{self, Service};
use crate::world::World;

/// The account's number.
pub const ACCOUNT: &str = "123456789012";
/// The account's region.
pub const REGION: &str = "eu-west-1";

/// An API call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The AWS service.
    pub service: Service,
    /// The operation, as `UpdateRoute`.
    pub operation: &'static str,
    /// When it was made.
    pub at: Timestamp,
    /// Whether the caller got an answer that is no error.
    pub ok: bool,
    /// The name of the error that the caller got.
    pub error: Option<String>,
}

/// How the names of the operations begin that change nothing.
const READS: [&str; 5] = ["Describe", "List", "Get", "Scan", "Query"];

type Hook = Box<dyn FnMut(&World, &Call) + Send>;

/// One AWS account in one region; cloning it gives another hand on the same account.
#[derive(Clone)]
pub struct Account(Arc<Shared>);

struct Shared {
    clock: Clock,
    world: Mutex<World>,
    faults: Mutex<Faults>,
    calls: Mutex<Vec<Call>>,
    hooks: Mutex<Vec<Hook>>,
    short_way: AtomicBool,
    /// What was sent and has not arrived yet.
    late: Mutex<Vec<Late>>,
    /// When the Lambda that runs has used up its time.
    deadline: Mutex<Option<i64>>,
}

/// A call that arrives later than its caller waits.
struct Late {
    due: i64,
    service: Service,
    operation: &'static str,
    act: Box<dyn FnOnce(&mut World) + Send>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Account")
            .field("now", &self.0.clock.now())
            .finish_non_exhaustive()
    }
}

impl Account {
    /// An empty account. Its world began a while before the clock's time, so that what a builder puts into it has
    /// settled when the first call is made.
    pub fn new(clock: Clock) -> Self {
        let world = World::new(clock.now().as_second() - World::SECONDS_BEFORE_THE_FIRST_CALL);
        Self(Arc::new(Shared {
            clock,
            world: Mutex::new(world),
            faults: Mutex::default(),
            calls: Mutex::default(),
            hooks: Mutex::default(),
            short_way: AtomicBool::new(false),
            late: Mutex::default(),
            deadline: Mutex::default(),
        }))
    }

    /// An account whose world is a copy of `world`, and whose clock shows the same time.
    pub fn with_world(world: &World) -> Self {
        let now = Timestamp::from_second(world.now()).expect("a world's time is a time");
        let account = Self::new(Clock::new(now));
        *account.0.world.lock().expect("the world is whole") = world.clone();
        account
    }

    /// SDK clients whose calls this account answers.
    pub fn clients(&self) -> Clients {
        let slot = Slot::default();
        slot.put(Some(self.clone()));
        clients::of(&slot)
    }

    /// From now on a call that succeeds ends as soon as its answer is known: no request is serialised, signed and sent. Only
    /// for many runs: it would not be noticed that the SDK refuses to send a request.
    pub fn take_the_short_way(&self) {
        self.0.short_way.store(true, Relaxed);
    }

    pub(crate) fn takes_the_short_way(&self) -> bool {
        self.0.short_way.load(Relaxed)
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Puts a fault on calls from now on.
    pub fn inject(&self, fault: Fault) {
        self.0
            .faults
            .lock()
            .expect("no panic while faults are held")
            .add(fault);
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.0
            .faults
            .lock()
            .expect("no panic while faults are held")
            .clear();
    }

    /// Every call that was made so far.
    pub fn calls(&self) -> Vec<Call> {
        self.0
            .calls
            .lock()
            .expect("no panic while calls are held")
            .clone()
    }

    /// How many calls of an operation were made, however they ended.
    pub fn count_calls(&self, operation: &str) -> usize {
        self.calls()
            .iter()
            .filter(|call| call.operation == operation)
            .count()
    }

    /// Runs `hook` after every call, with the world as the call left it. The hook must not make a call itself.
    pub fn on_call(&self, hook: impl FnMut(&World, &Call) + Send + 'static) {
        self.0
            .hooks
            .lock()
            .expect("no hook panicked")
            .push(Box::new(hook));
    }

    /// Changes how the simulated world behaves.
    pub fn settings(&self, change: impl FnOnce(&mut Settings)) {
        // The time until now passes under the old settings.
        let fresh = self.0.world.lock().expect("the world is whole").is_fresh();
        let mut world = if fresh {
            self.0.world.lock().expect("the world is whole")
        } else {
            self.world()
        };
        world.version += 1;
        change(&mut world.settings);
    }

    /// Looks at the world as it is now.
    pub fn look<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&self.world())
    }

    /// Changes the world behind Serin's back.
    pub fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world();
        world.version += 1;
        change(&mut world)
    }

    /// Builds a part of the world, without letting time pass first.
    pub(crate) fn build<T>(&self, build: impl FnOnce(&mut World) -> T) -> T {
        build(&mut self.0.world.lock().expect("the world is whole"))
    }

    fn next_late(&self, now: i64) -> Option<Late> {
        let mut late = self.0.late.lock().expect("nobody panics with it");
        let next = late
            .iter()
            .enumerate()
            .filter(|(_, late)| late.due <= now)
            .min_by_key(|(_, late)| late.due)?;
        let index = next.0;
        Some(late.remove(index))
    }

    /// The world, brought up to the clock.
    fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.0.world.lock().expect("the world is whole");
        let now = self.0.clock.now().as_second();
        // What was sent long ago arrives in its order.
        while let Some(late) = self.next_late(now) {
            world.advance_to(late.due);
            world.version += 1;
            (late.act)(&mut world);
            let call = Call {
                service: late.service,
                operation: late.operation,
                at: Timestamp::from_second(late.due).expect("a world's time is a time"),
                ok: true,
                error: Some("arrived late".to_owned()),
            };
            self.note(&world, call);
        }
        world.advance_to(now);
        world
    }

    /// A Lambda that makes a call after this second is killed, as one is that has used up its time.
    pub fn kill_callers_after(&self, second: Option<i64>) {
        *self.0.deadline.lock().expect("nobody panics with it") = second;
    }

    /// How often which kind of fault has struck.
    pub fn struck(&self) -> BTreeMap<&'static str, usize> {
        let faults = self.0.faults.lock();
        faults
            .expect("no panic while faults are held")
            .struck
            .clone()
    }

    /// Answers one call.
    pub(crate) fn answer<I, O>(
        &self,
        service: Service,
        operation: &'static str,
        handle: Handle<I, O>,
        input: &I,
    ) -> Answer<O>
    where
        I: Clone + Send + 'static,
        O: 'static,
    {
        self.die_if_time_is_up();
        let mut world = self.world();
        let fault = self
            .0
            .faults
            .lock()
            .expect("no panic while faults are held")
            .strike(service, operation, world.now());
        let changes = !READS.iter().any(|read| operation.starts_with(read));
        if changes {
            world.version += 1;
        }
        let undone = (fault == Some(FaultKind::Undone)).then(|| world.snapshot());
        let done = fault
            .as_ref()
            .is_none_or(FaultKind::takes_effect)
            .then(|| handle(&mut world, input));
        if let Some(before) = undone {
            world.put_routes_back(&before);
        }
        let killed = matches!(
            fault,
            Some(FaultKind::KilledBefore | FaultKind::KilledAfter)
        );
        if let Some(FaultKind::AnsweredLate(seconds)) = fault {
            self.0.clock.advance(seconds);
            world.advance_to(self.0.clock.now().as_second());
        }
        if let Some(FaultKind::ArrivesLate(seconds)) = fault
            && changes
        {
            let input = input.clone();
            let act = move |world: &mut World| drop(handle(world, &input));
            self.0
                .late
                .lock()
                .expect("nobody panics with it")
                .push(Late {
                    due: world.now() + seconds,
                    service,
                    operation,
                    act: Box::new(act),
                });
        }
        let (response, error) = match (fault, done) {
            (None | Some(FaultKind::AnsweredLate(_) | FaultKind::Undone), Some(Ok(output))) => {
                (Answer::Output(output), None)
            }
            (None | Some(FaultKind::AnsweredLate(_) | FaultKind::Undone), Some(Err(refusal))) => (
                Answer::Http(Box::new(refusal.response(service))),
                Some(refusal.code),
            ),
            (fault, _) => match fault
                .as_ref()
                .and_then(|kind| kind.refusal(service, operation))
            {
                Some(refusal) => (
                    Answer::Http(Box::new(refusal.response(service))),
                    Some(refusal.code),
                ),
                None => (
                    Answer::Http(Box::new(wire::lost_response())),
                    fault.map(|kind| format!("{kind:?}")),
                ),
            },
        };
        self.note(
            &world,
            Call {
                service,
                operation,
                at: self.0.clock.now(),
                ok: error.is_none(),
                error,
            },
        );
        drop(world);
        if killed {
            // Unwinds without the panic hook: nothing is wrong, and nothing is printed.
            std::panic::resume_unwind(Box::new(Killed));
        }
        self.die_if_time_is_up();
        response
    }

    fn die_if_time_is_up(&self) {
        let deadline = *self.0.deadline.lock().expect("nobody panics with it");
        if deadline.is_some_and(|deadline| self.0.clock.now().as_second() >= deadline) {
            std::panic::resume_unwind(Box::new(Killed));
        }
    }

    /// Remembers a call, and tells the hooks.
    fn note(&self, world: &World, call: Call) {
        for hook in self.0.hooks.lock().expect("no hook panicked").iter_mut() {
            hook(world, &call);
        }
        let mut calls = self.0.calls.lock().expect("no panic while calls are held");
        calls.push(call);
    }
}
