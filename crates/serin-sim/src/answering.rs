//! How a call gets its answer: an interceptor in each SDK client, which has the account compute it from the typed request.
//!
//! A call that succeeds takes the whole way through the SDK (serialised, signed, sent to nobody), or the short one, which ends
//! as soon as the answer is known; the typed output is put in when the call completes. An error always takes the whole way, as
//! an HTTP answer of which the SDK itself makes the typed error.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
    FinalizerInterceptorContextMut, Input, Output,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};

use crate::account::Account;
use crate::wire::{Refusal, Service};
use crate::world::World;

/// What a call gets.
pub(crate) enum Answer<O> {
    /// The typed output.
    Output(O),
    /// An error, or nothing, as it comes over the wire.
    Http(HttpResponse),
}

/// The account that a client's calls go to. A client outlives an account: building one is dear.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<Account>>>);

impl Slot {
    pub(crate) fn put(&self, account: Option<Account>) {
        *self.0.lock().expect("nobody panics while holding it") = account;
    }

    fn account(&self) -> Account {
        let account = self.0.lock().expect("nobody panics while holding it");
        account.clone().expect("a client is used with an account")
    }
}

/// One operation of a service.
trait Operation: Send + Sync {
    /// The answer, when the input is this operation's.
    fn answer(&self, account: &Account, service: Service, input: &Input) -> Option<Answer<Output>>;
}

/// How the account does an operation.
type Handle<I, O> = fn(&mut World, &I) -> Result<O, Refusal>;

struct Handler<I, O> {
    operation: &'static str,
    handle: Handle<I, O>,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O> Operation for Handler<I, O>
where
    I: fmt::Debug + Send + Sync + 'static,
    O: fmt::Debug + Send + Sync + 'static,
{
    fn answer(&self, account: &Account, service: Service, input: &Input) -> Option<Answer<Output>> {
        let input = input.downcast_ref::<I>()?;
        let handle = |world: &mut World| (self.handle)(world, input);
        Some(match account.answer(service, self.operation, handle) {
            Answer::Output(output) => Answer::Output(Output::erase(output)),
            Answer::Http(response) => Answer::Http(response),
        })
    }
}

/// Answers the calls of one client.
pub(crate) struct Answering {
    service: Service,
    slot: Slot,
    operations: Vec<Box<dyn Operation>>,
}

impl Answering {
    pub(crate) fn new(service: Service, slot: &Slot) -> Self {
        Self {
            service,
            slot: slot.clone(),
            operations: Vec::new(),
        }
    }

    /// With one more operation.
    pub(crate) fn with<I, O>(mut self, operation: &'static str, handle: Handle<I, O>) -> Self
    where
        I: fmt::Debug + Send + Sync + 'static,
        O: fmt::Debug + Send + Sync + 'static,
    {
        self.operations.push(Box::new(Handler {
            operation,
            handle,
            types: PhantomData,
        }));
        self
    }
}

impl fmt::Debug for Answering {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the answers of {}", self.service)
    }
}

/// An output on its way to the end of its call.
#[derive(Debug)]
struct Known(Mutex<Option<Output>>);

impl Storable for Known {
    type Storer = StoreReplace<Self>;
}

/// An HTTP answer on its way to the wire.
#[derive(Debug, Clone)]
pub(crate) struct OnTheWire(pub(crate) Arc<Mutex<Option<HttpResponse>>>);

impl Storable for OnTheWire {
    type Storer = StoreReplace<Self>;
}

/// Ends a call before its request is made, because its answer is known already.
#[derive(Debug)]
struct TheShortWay;

impl fmt::Display for TheShortWay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the answer is known")
    }
}

impl std::error::Error for TheShortWay {}

impl Intercept for Answering {
    fn name(&self) -> &'static str {
        "Answering"
    }

    fn read_before_serialization(
        &self,
        context: &BeforeSerializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let account = self.slot.account();
        let input = context.input();
        let answer = self
            .operations
            .iter()
            .find_map(|operation| operation.answer(&account, self.service, input))
            .unwrap_or_else(|| panic!("{} does not know {input:?}", self.service));
        match answer {
            Answer::Output(output) => {
                let known = Known(Mutex::new(Some(output)));
                config.interceptor_state().store_put(known);
                if account.takes_the_short_way() {
                    return Err(Box::new(TheShortWay));
                }
            }
            Answer::Http(response) => {
                let response = OnTheWire(Arc::new(Mutex::new(Some(response))));
                config.interceptor_state().store_put(response);
            }
        }
        Ok(())
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(response) = config.load::<OnTheWire>() {
            context.request_mut().add_extension(response.clone());
        }
        Ok(())
    }

    fn modify_before_completion(
        &self,
        context: &mut FinalizerInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let output = config.load::<Known>().and_then(|known| {
            known
                .0
                .lock()
                .expect("nobody panics while holding it")
                .take()
        });
        if let Some(output) = output {
            context.inner_mut().set_output_or_error(Ok(output));
        }
        Ok(())
    }
}
