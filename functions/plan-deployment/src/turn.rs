//! Whether it is the deployment's turn: its change window is open, and no other deployment of the service is in the way.
//!
//! Who waits is written into the item of the service's lock, where there is room for one: the newest. Each execution that waits looks
//! again after a while, so nobody has to call it; one that is stopped meanwhile is known by its status.

use jiff::{SignedDuration, Timestamp};
use serin::ports::{
    Contender, ExecutionStatus, Fleet, ImagePin, Ledger, LedgerRecord, Lock, LockHolder, PortError,
};
use serin::request::{Leftovers, NewVersion, OnConflict, Outside, Request};
use serin::state::{Turn, WaitsFor};
use serin::{Ending, ExecutionArn, Leftover, ServiceKey, ServiceName, VersionId};

use crate::PlanDeploymentError;

/// How often the lock is looked at anew in one call when what is in the way turns out to be gone.
const LOOKS: usize = 5;

/// What came of asking for the turn.
pub(crate) enum Taken {
    /// It is this deployment's turn: it has the lock. `bearer` is as in [`Lock::Taken`].
    Now { bearer: Option<ServiceName> },
    /// It has to wait.
    Later(Box<Turn>),
}

/// A deployment that wants its turn.
pub(crate) struct Turns<'a, F, L> {
    pub(crate) fleet: &'a F,
    pub(crate) ledger: &'a L,
    pub(crate) request: &'a Request,
    pub(crate) key: &'a ServiceKey,
    pub(crate) execution: &'a ExecutionArn,
    pub(crate) started_at: Timestamp,
    pub(crate) now: Timestamp,
    /// What it has waited for so far.
    pub(crate) waited: Option<&'a Turn>,
    /// Whether it has begun already, and this is a repetition.
    pub(crate) planned: bool,
}

/// Who has the lock, and what is known of it.
struct Holder {
    lock: LockHolder,
    status: ExecutionStatus,
    record: Option<LedgerRecord>,
}

impl<F: Fleet, L: Ledger> Turns<'_, F, L> {
    /// Takes the lock when it is this deployment's turn, and its place among those that wait otherwise.
    pub(crate) async fn take(&self) -> Result<Taken, PlanDeploymentError> {
        let taken = self.take_or_wait().await;
        if let (Some(_), Err(refusal)) = (self.waited, &taken)
            && is_final(refusal)
        {
            self.ledger.leave(self.key, self.execution).await?;
        }
        taken
    }

    async fn take_or_wait(&self) -> Result<Taken, PlanDeploymentError> {
        let opens_at = self.opens_at();
        if let Some(opens_at) = opens_at {
            self.refuse_outside(opens_at)?;
        }
        for _ in 0..LOOKS {
            if opens_at.is_none()
                && let Lock::Taken { bearer } = self
                    .ledger
                    .lock(self.key, self.execution, self.started_at, self.now)
                    .await?
            {
                if self.waited.is_some() {
                    self.ledger.leave(self.key, self.execution).await?;
                }
                return Ok(Taken::Now { bearer });
            }
            if let Some(turn) = self.look(opens_at).await? {
                return Ok(Taken::Later(Box::new(turn)));
            }
        }
        Err(PlanDeploymentError::AwsUnavailable(format!(
            "the lock of {} goes from hand to hand",
            self.key
        )))
    }

    /// When the change window opens; `None` if it is open, or does not hold.
    fn opens_at(&self) -> Option<Timestamp> {
        let window = self.request.window.as_ref();
        let window = window.filter(|window| window.overridden.is_none() && !self.planned);
        window?.opens_at(self.now)
    }

    /// For the plan: why it begins although its change window is closed.
    pub(crate) fn note_of_the_override(&self) -> Option<String> {
        let window = self.request.window.as_ref()?;
        let reason = window.overridden.as_ref()?;
        let opens_at = window.opens_at(self.now)?;
        Some(format!(
            "Began outside its change window, which opens on {}, because: {reason}.",
            window.local(opens_at)
        ))
    }

    fn refuse_outside(&self, opens_at: Timestamp) -> Result<(), PlanDeploymentError> {
        let Some(window) = &self.request.window else {
            return Ok(());
        };
        let closed = format!(
            "the change window of {} is closed; it opens on {}",
            self.key,
            window.local(opens_at)
        );
        if window.outside == Outside::Refuse {
            return Err(PlanDeploymentError::OutsideWindow(format!(
                "{closed}; window.override begins at once, with a reason"
            )));
        }
        if opens_at > self.until() {
            return Err(PlanDeploymentError::OutsideWindow(format!(
                "{closed}, and this deployment may wait {} seconds only (maxWaitSeconds, and at most six days with deadlineSeconds)",
                self.request.longest_wait_seconds()
            )));
        }
        Ok(())
    }

    /// Until when it may wait.
    fn until(&self) -> Timestamp {
        let longest = i64::from(self.request.longest_wait_seconds());
        self.started_at + SignedDuration::from_secs(longest)
    }

    /// Looks at who is in the way. What it has to wait for; or `None` when nobody is any more, and it should ask for the lock again.
    async fn look(&self, opens_at: Option<Timestamp>) -> Result<Option<Turn>, PlanDeploymentError> {
        let turns = self.ledger.turns(self.key).await?;
        let others = |contender: &Contender| contender.execution != *self.execution;
        let waiter = turns.waiter.filter(others);
        if let Some(waiter) = &waiter
            && self.status(&waiter.execution).await? != ExecutionStatus::Running
        {
            // Whoever is dead does not wait.
            self.ledger.leave(self.key, &waiter.execution).await?;
            return Ok(None);
        }
        let holder = match turns.holder {
            Some(lock) if lock.execution != *self.execution => {
                let status = self.status(&lock.execution).await?;
                let record = self.ledger.find(&lock.execution).await?;
                if record.is_none() && status != ExecutionStatus::Running {
                    // It ended before it had planned anything: nothing of it can exist.
                    self.ledger.unlock(self.key, &lock.execution).await?;
                    return Ok(None);
                }
                Some(Holder {
                    lock,
                    status,
                    record,
                })
            }
            _ => None,
        };
        let me = Contender {
            execution: self.execution.clone(),
            started_at: self.started_at,
            version: self.version().await?,
        };
        self.refuse_the_same(&me, holder.as_ref(), waiter.as_ref())?;
        if let Some(holder) = holder.as_ref().filter(|_| opens_at.is_none()) {
            self.refuse_over_leftovers(holder).await?;
        }
        let last = turns.last.filter(others);
        let newer = [waiter.as_ref(), last.as_ref()];
        let newer = newer.into_iter().flatten();
        let mut newer = newer.filter(|other| other.is_newer_than(&me));
        self.refuse_conflict(
            holder.as_ref().filter(|_| opens_at.is_none()),
            waiter.as_ref(),
            newer.next(),
        )?;
        let until = self.until();
        if self.now >= until {
            return Err(PlanDeploymentError::WaitedTooLong(format!(
                "it has waited since {} and may wait {} seconds (maxWaitSeconds){}",
                self.started_at,
                self.request.longest_wait_seconds(),
                holder
                    .as_ref()
                    .map_or(String::new(), |holder| format!("; {}", self.said(holder)))
            )));
        }
        if let Some(holder) = holder.as_ref().filter(|_| opens_at.is_none()) {
            self.make_room(holder).await?;
        }
        if !self.ledger.wait(self.key, &me).await? || (holder.is_none() && opens_at.is_none()) {
            return Ok(None);
        }
        Ok(Some(self.turn(opens_at, holder.as_ref(), me.version)))
    }

    fn turn(
        &self,
        opens_at: Option<Timestamp>,
        holder: Option<&Holder>,
        version: Option<VersionId>,
    ) -> Turn {
        let window = self.request.window.as_ref();
        let closed = window.zip(opens_at).map(|(window, opens_at)| {
            format!(
                "{} waits for its change window, which opens on {}",
                self.key,
                window.local(opens_at)
            )
        });
        let behind = holder.filter(|_| opens_at.is_none());
        let said = behind.map(|holder| match self.request.on_conflict {
            OnConflict::Supersede => format!("{}; it has to make room first", self.said(holder)),
            _ => format!(
                "{}; this deployment waits until it has ended",
                self.said(holder)
            ),
        });
        Turn {
            service: self.key.clone(),
            waits_for: match opens_at {
                Some(_) => WaitsFor::Window,
                None => WaitsFor::Deployment,
            },
            why: closed.or(said).unwrap_or_default(),
            behind: behind.map(|holder| holder.lock.execution.clone()),
            opens_at,
            until: self.until(),
            version,
        }
    }

    async fn status(&self, execution: &ExecutionArn) -> Result<ExecutionStatus, PortError> {
        self.ledger.execution_status(execution).await
    }

    /// What is to be deployed, without looking at what runs; `None` where a name may mean another thing every time.
    async fn version(&self) -> Result<Option<VersionId>, PortError> {
        if let Some(waited) = self.waited {
            return Ok(waited.version.clone());
        }
        let images: Vec<String> = match self.request.new_version() {
            NewVersion::TaskDefinition(name) => {
                let definition = self.fleet.task_definition(&name).await?;
                return Ok(definition.map(|found| VersionId::new(found.arn.as_str())));
            }
            NewVersion::Image(image) => vec![image],
            NewVersion::Images(images) => images.into_values().collect(),
        };
        let mut pinned = Vec::new();
        for image in images {
            pinned.push(match self.fleet.pin_image(&image).await? {
                ImagePin::Pinned(pinned) => pinned,
                ImagePin::Unknown(_) | ImagePin::Missing => image,
            });
        }
        Ok(VersionId::of_images(pinned.iter().map(String::as_str)))
    }

    /// Several events for one push are one wish.
    fn refuse_the_same(
        &self,
        me: &Contender,
        holder: Option<&Holder>,
        waiter: Option<&Contender>,
    ) -> Result<(), PlanDeploymentError> {
        let Some(version) = &me.version else {
            return Ok(());
        };
        let same = |other: Option<VersionId>| other.as_ref() == Some(version);
        if let Some((holder, record)) =
            holder.and_then(|holder| Some((holder, holder.record.as_ref()?)))
            // One that is dead is being undone: wanting its image again is another wish.
            && holder.status == ExecutionStatus::Running
            && record.ending.is_none()
            && same(record.deployment.canary.version_id())
        {
            return Err(PlanDeploymentError::AlreadyDeploying(format!(
                "{}, and deploys the same: {version}",
                self.said(holder)
            )));
        }
        if let Some(waiter) = waiter
            && same(waiter.version.clone())
        {
            return Err(PlanDeploymentError::AlreadyDeploying(format!(
                "{} waits already to deploy the same to {}: {version}",
                waiter.execution, self.key
            )));
        }
        Ok(())
    }

    /// What needs a person is not waited for, nor superseded.
    async fn refuse_over_leftovers(&self, holder: &Holder) -> Result<(), PlanDeploymentError> {
        let Some(record) = &holder.record else {
            return Ok(());
        };
        let needs_attention = record.ending == Some(Ending::NeedsAttention);
        let dead = holder.status != ExecutionStatus::Running;
        let deployment = &holder.lock.execution;
        if dead
            && self.request.leftovers == Leftovers::Remove
            && ((!needs_attention && self.request.on_conflict == OnConflict::Reject)
                || (needs_attention && self.ledger.reopen(deployment, self.execution).await?))
        {
            return Err(PlanDeploymentError::LeftoversBeingRemoved(format!(
                "{}; what it has left is being removed",
                self.said(holder)
            )));
        }
        if !dead || !needs_attention {
            return Ok(());
        }
        let left = record.left.iter().map(Leftover::to_string);
        let left: Vec<_> = left.collect();
        Err(PlanDeploymentError::LeftoversFound(format!(
            "the deployment of {} by {deployment} has left something; put it in order, or ask for it with leftovers: remove. {}",
            self.key,
            left.join(" | ")
        )))
    }

    fn refuse_conflict(
        &self,
        holder: Option<&Holder>,
        waiter: Option<&Contender>,
        newer: Option<&Contender>,
    ) -> Result<(), PlanDeploymentError> {
        let may_wait = self.request.on_conflict != OnConflict::Reject;
        if let Some(holder) = holder.filter(|_| !may_wait) {
            let recovered = match (&holder.record, &holder.status) {
                (Some(_), ExecutionStatus::Over(_) | ExecutionStatus::Forgotten) => {
                    "; it is being recovered, which takes some minutes"
                }
                _ => "",
            };
            return Err(PlanDeploymentError::AnotherDeploymentInProgress(format!(
                "{}{recovered}",
                self.said(holder)
            )));
        }
        if let Some(newer) = newer {
            return Err(PlanDeploymentError::Superseded(format!(
                "{}, which started later, has taken the place of this deployment of {}",
                newer.execution, self.key
            )));
        }
        if let Some(waiter) = waiter.filter(|_| !may_wait) {
            return Err(PlanDeploymentError::AnotherDeploymentInProgress(format!(
                "{} waits to deploy {}",
                waiter.execution, self.key
            )));
        }
        Ok(())
    }

    /// Has the running deployment rolled back, if that is wished and it is on trial still.
    ///
    /// The ledger comes first: none of its functions goes on then, also if the execution is not stopped any more. Its end starts the
    /// recovery, as every end of that kind.
    async fn make_room(&self, holder: &Holder) -> Result<(), PortError> {
        let running = holder.status == ExecutionStatus::Running && holder.record.is_some();
        if self.request.on_conflict != OnConflict::Supersede || !running {
            return Ok(());
        }
        let theirs = &holder.lock.execution;
        let superseded = self.ledger.supersede(theirs, self.execution).await?;
        if let Err(phase) = superseded {
            tracing::info!(%phase, "is not superseded any more, but waited for");
            return Ok(());
        }
        let why = format!(
            "superseded by {}, which is newer; what it had created is removed",
            self.execution
        );
        self.ledger.stop_execution(theirs, &why).await
    }

    fn said(&self, holder: &Holder) -> String {
        let LockHolder { execution, since } = &holder.lock;
        format!(
            "{} is being deployed by {execution} since {since}, which is {}",
            self.key, holder.status
        )
    }
}

/// Whether nobody asks for the turn any more after this error.
const fn is_final(error: &PlanDeploymentError) -> bool {
    use PlanDeploymentError::{
        AlreadyDeploying, AnotherDeploymentInProgress, LeftoversFound, OutsideWindow, Superseded,
        WaitedTooLong,
    };
    matches!(
        error,
        AlreadyDeploying(_)
            | AnotherDeploymentInProgress(_)
            | LeftoversFound(_)
            | OutsideWindow(_)
            | Superseded(_)
            | WaitedTooLong(_)
    )
}
