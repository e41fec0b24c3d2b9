//! What the launcher says: `go`, once; and its end, or the launcher's, is the end of this process.

use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Said {
    Nothing,
    Go,
    End,
}

/// The standard input, read by a thread that nobody waits for.
pub(crate) struct Input(watch::Receiver<Said>);

impl Input {
    pub(crate) fn read() -> Self {
        let (say, said) = watch::channel(Said::Nothing);
        std::thread::spawn(move || {
            let lines = std::io::stdin().lines().map_while(Result::ok);
            for _ in lines.filter(|line| line == "go") {
                say.send_replace(Said::Go);
            }
            say.send_replace(Said::End);
        });
        Self(said)
    }

    /// Completes when the launcher says so.
    pub(crate) async fn go(&self) {
        self.reached(Said::Go).await;
    }

    pub(crate) async fn ended(&self) {
        self.reached(Said::End).await;
    }

    async fn reached(&self, wanted: Said) {
        // A thread that is gone has read to the end.
        let mut said = self.0.clone();
        let _gone = said.wait_for(|said| *said >= wanted).await;
    }
}
