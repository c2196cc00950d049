//! The demo's second half: the agent serves a child process while the session is refreshed, is locked, and stops.

use super::{Demo, login_again};
use crate::cmd::dev_issuer::random_password;
use crate::dev_issuer::DevIssuer;
use crate::error::Error;
use crate::secret::Secret;

impl Demo<'_> {
    /// The agent: started, serving a child, refreshing meanwhile, locked, unlocked, stopped.
    pub(super) fn agent(&mut self, issuer: &DevIssuer, password: &Secret) -> Result<(), Error> {
        self.title(
            "Log in once more, and start the agent: it keeps the session cache, and is ready when this returns.",
        )?;
        let line = Secret::new(format!("{}\n", password.expose()));
        let did = self.show(&login_again(), Some(&line))?;
        self.expect(did.code == 0, "the login succeeds")?;
        let did = self.show(&["agent", "start"], None)?;
        self.expect(did.code == 0, "the agent runs")?;
        let did = self.show(&["agent", "status"], None)?;
        self.expect(did.code == 0 && did.stdout.expose().starts_with("agent: running"), "and says so")?;

        self.title("A child process asks the agent by itself, and again once the session has been refreshed.")?;
        let first = Secret::new(self.run(&["token"], None)?.stdout.expose().trim().to_owned());
        let before = issuer.stats().refreshes_committed;
        let script = "old=$(authctl token demo) && authctl refresh demo && new=$(authctl token demo) && \
                      test \"$old\" != \"$new\" && echo another token";
        let child = ["exec", "--", "sh", "-c", script];
        let did = self.show(&child, None)?;
        self.expect(did.code == 0 && did.stdout.expose().trim() == "another token", "the child got both tokens")?;
        let second = Secret::new(self.run(&["token"], None)?.stdout.expose().trim().to_owned());
        self.expect(second.expose() != first.expose(), "the next process gets the new one")?;
        let refreshes = issuer.stats().refreshes_committed - before;
        self.expect(refreshes == 1, "the issuer was asked once")?;
        let did = self.show(&["agent", "log"], None)?;
        self.expect(did.code == 0 && did.stdout.expose().contains("refresh demo"), "who got what is in its log")?;

        self.title("Lock it with a passphrase: no session is in its memory, and nobody gets a token.")?;
        let passphrase = random_password()?;
        let line = Secret::new(format!("{}\n", passphrase.expose()));
        let did = self.show(&["agent", "lock", "--passphrase-stdin"], Some(&line))?;
        self.expect(did.code == 0, "the agent is locked")?;
        let did = self.show(&["token"], None)?;
        self.expect(did.code == 8 && did.stdout.is_empty(), "no token, with exit code 8")?;
        let wrong = Secret::new("not the passphrase\n".to_owned());
        let did = self.show(&["agent", "unlock", "--passphrase-stdin"], Some(&wrong))?;
        self.expect(did.code == 8, "a wrong passphrase does not unlock it")?;
        let did = self.show(&["agent", "unlock", "--passphrase-stdin"], Some(&line))?;
        self.expect(did.code == 0, "the right one does")?;
        let did = self.run(&["token"], None)?;
        self.expect(did.code == 0 && did.stdout.expose().trim() == second.expose(), "and the session is still there")?;

        self.title("Stop it. The command line goes on by itself, as before.")?;
        let did = self.show(&["agent", "stop"], None)?;
        self.expect(did.code == 0, "the agent has stopped")?;
        let did = self.run(&["agent", "status"], None)?;
        self.expect(did.code == 8, "none runs")?;
        let did = self.run(&["token"], None)?;
        self.expect(did.code == 0 && did.stdout.expose().trim() == second.expose(), "the same token, from the store")
    }

    /// Stops the demo's agent if one is left.
    pub(super) fn stop_agent(&self) {
        if self.run(&["agent", "status", "--json"], None).is_ok_and(|did| did.code == 0) {
            let _ = self.run(&["agent", "stop"], None);
        }
    }
}
