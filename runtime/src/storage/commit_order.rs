//! The order in which batches commit that are stored side by side.

use tokio::sync::watch;

/// Where a batch stands among those of one relay that are stored at the same time, each over a connection of its own: it is
/// inserted after the one before it, and commits after that one too. So sequence numbers, commits and arrival have one order
/// (rules 5 and 17), while the disk confirms one batch and the processors take in the next.
///
/// Where the one before it fails it waits for ever, and is dropped by who lets it wait.
#[derive(Debug, Default)]
pub struct CommitOrder {
    before: Option<Behind>,
    progress: watch::Sender<Progress>,
}

/// What a batch knows of the one before it.
#[derive(Clone, Debug)]
pub struct Behind(watch::Receiver<Progress>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    #[default]
    Waiting,
    Inserted,
    Committed,
}

impl CommitOrder {
    /// A place behind another.
    #[must_use]
    pub fn behind(before: Option<Behind>) -> Self {
        Self { before, progress: watch::Sender::default() }
    }

    /// For the next to wait on.
    #[must_use]
    pub fn follower(&self) -> Behind {
        Behind(self.progress.subscribe())
    }

    /// Waits until it may be inserted.
    pub async fn insert(&mut self) {
        self.after(Progress::Inserted).await;
    }

    /// It is inserted: waits until it may commit.
    pub async fn commit(&mut self) {
        self.progress.send_replace(Progress::Inserted);
        self.after(Progress::Committed).await;
    }

    /// It has committed.
    pub fn committed(self) {
        self.progress.send_replace(Progress::Committed);
    }

    async fn after(&mut self, least: Progress) {
        if let Some(Behind(before)) = &mut self.before
            && before.wait_for(|progress| *progress >= least).await.is_err()
        {
            std::future::pending().await
        }
    }
}
