//! A pure function, ready to be run, or the ground for any: what instances are started from.
//!
//! There is nothing to fork. A template of a function's own keeps its code loaded in one engine at least; the generic one
//! has nothing, and its starts name their code.

use super::engine::{EngineError, EngineProcess};
use super::instance::PureInstance;
use super::program::{Program, Wanted};
use super::{Engines, lock};
use crate::spec::{EngineClass, Kind, TemplateSpec};
use crate::{Answer, Instance, PrepareError, SpawnError, Start, Template};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::watch;

pub(super) struct PureTemplate {
    engines: Arc<Engines>,
    kind: Kind,
    function: Option<(Arc<Program>, Wanted)>,
    ended: watch::Sender<bool>,
    instances: Arc<Mutex<Instances>>,
}

/// Instances that were started from a template, which end with it.
pub(super) type Instances = HashMap<u64, Weak<EngineProcess>>;

impl PureTemplate {
    pub async fn prepare(engines: Arc<Engines>, spec: TemplateSpec) -> Result<Self, PrepareError> {
        let function = match &spec.function {
            None => None,
            Some(code) => {
                let wanted = Wanted::of(spec.kind, code)?;
                let program = engines.program(&wanted);
                let (engine, _way) = engines.engine_for(wanted.engine, EngineClass::Short, None).await?;
                program.load_into(&engine, &wanted).await?;
                Some((program, wanted))
            }
        };
        Ok(Self { engines, kind: spec.kind, function, ended: watch::Sender::new(false), instances: Arc::default() })
    }

    async fn start(&self, start: Start) -> Result<Box<dyn Instance>, SpawnError> {
        let failed = |error: PrepareError| SpawnError::Engine(Box::new(error));
        if *self.ended.borrow() {
            return Err(SpawnError::TemplateGone);
        }
        let (program, wanted) = match (&start.spec.code, &self.function) {
            (Some(code), _) => {
                let wanted = Wanted::of(self.kind, code).map_err(failed)?;
                (self.engines.program(&wanted), wanted)
            }
            (None, Some((program, wanted))) => (program.clone(), wanted.clone()),
            (None, None) => return Err(SpawnError::TemplateGone),
        };
        let (id, channel) = (start.spec.instance, &start.channel);
        let mut descriptors = vec![channel.region.as_fd(), channel.down.as_fd(), channel.up.as_fd(), start.log.as_fd()];
        descriptors.extend(wanted.sets.as_ref().map(|sets| sets.as_fd()));
        let mut last = SpawnError::TemplateGone;
        // The engine that was chosen may be about to end.
        for _ in 0..2 {
            let attempt = async {
                let chosen = self.engines.engine_for(wanted.engine, start.spec.class, start.spec.apart);
                let (engine, _way) = chosen.await?;
                program.load_into(&engine, &wanted).await?;
                let told = engine.attach((id, program.id), wanted.terms.clone(), &descriptors).await;
                Ok((told.map_err(PrepareError::Engine)?, engine))
            };
            match attempt.await {
                Ok((told, engine)) => {
                    lock(&self.instances).insert(id, Arc::downgrade(&engine));
                    return Ok(Box::new(PureInstance::new(id, engine, program, told, self.instances.clone())));
                }
                Err(error @ PrepareError::Engine(EngineError::Gone)) => last = failed(error),
                Err(error) => return Err(failed(error)),
            }
        }
        Err(last)
    }
}

impl Template for PureTemplate {
    fn report(&self) -> &str {
        "{}"
    }

    fn reserve(&self, _slots: usize) {}

    fn spawn(&self, starts: Vec<Start>) -> Answer<'_, Vec<Result<Box<dyn Instance>, SpawnError>>> {
        Box::pin(async move {
            let mut results = Vec::with_capacity(starts.len());
            for start in starts {
                results.push(self.start(start).await);
            }
            results
        })
    }

    fn ended(&self) -> Answer<'_, ()> {
        let mut ended = self.ended.subscribe();
        Box::pin(async move {
            let _ = ended.wait_for(|ended| *ended).await;
        })
    }

    fn discard(&self) {
        self.ended.send_replace(true);
        for (id, engine) in std::mem::take(&mut *lock(&self.instances)) {
            engine.upgrade().into_iter().for_each(|engine| engine.detach(id));
        }
    }
}
