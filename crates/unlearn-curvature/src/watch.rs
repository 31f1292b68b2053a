//! What a run tells while it goes, and how it is stopped.

use std::cell::Cell;
use std::fmt;
use std::ops::ControlFlow;

use crate::CurvatureError;

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done; a run can have several stages, one after another.
    pub stage: &'static str,
    /// Units (samples as a rule) of the stage that are done.
    pub done: usize,
    /// Units of the stage.
    pub total: usize,
}

/// Sees how far a run has come, and may end it. Any closure `Fn(&Progress) -> ControlFlow<()>` is one.
///
/// It is called before the first batch of each stage and after every batch, in the thread that called the run.
pub trait Watch {
    /// `Break` ends the run with [`CurvatureError::Interrupted`].
    fn on_progress(&self, progress: &Progress) -> ControlFlow<()>;
}

impl<F: Fn(&Progress) -> ControlFlow<()>> Watch for F {
    fn on_progress(&self, progress: &Progress) -> ControlFlow<()> {
        self(progress)
    }
}

/// Perhaps somebody who watches.
#[derive(Clone, Copy, Default)]
pub struct Watched<'w>(Option<&'w dyn Watch>);

impl<'w> Watched<'w> {
    /// By `watch`.
    pub fn by(watch: &'w dyn Watch) -> Self {
        Self(Some(watch))
    }

    pub(crate) fn tell(self, progress: Progress) -> Result<(), CurvatureError> {
        let Progress { stage, done, total } = progress;
        match self.0.map(|watch| watch.on_progress(&progress)) {
            Some(ControlFlow::Break(())) => Err(CurvatureError::Interrupted { stage, done, total }),
            Some(ControlFlow::Continue(())) | None => Ok(()),
        }
    }
}

impl fmt::Debug for Watched<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Watched" } else { "Unwatched" })
    }
}

/// Counts the units of the stage under way.
#[derive(Debug)]
pub(crate) struct Counter<'w> {
    watched: Watched<'w>,
    progress: Cell<Progress>,
}

impl<'w> Counter<'w> {
    pub(crate) fn new(watched: Watched<'w>) -> Self {
        Self { watched, progress: Cell::new(Progress { stage: "", done: 0, total: 0 }) }
    }

    /// A stage of `total` units begins.
    pub(crate) fn begin(&self, stage: &'static str, total: usize) -> Result<(), CurvatureError> {
        self.progress.set(Progress { stage, done: 0, total });
        self.add(0)
    }

    /// So many more units are done; 0 asks only whether to go on.
    pub(crate) fn add(&self, units: usize) -> Result<(), CurvatureError> {
        let progress = self.progress.get();
        let progress = Progress { done: progress.done + units, ..progress };
        self.progress.set(progress);
        self.watched.tell(progress)
    }
}
