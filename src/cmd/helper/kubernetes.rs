//! The exec credential plugins of Kubernetes clients: `client.authentication.k8s.io/v1` and `v1beta1`.

use serde_json::{Value, json};

use super::call::Call;
use super::protocol::Protocol;
use super::setup::{Change, program};
use crate::cmd::output;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::ToolHost;

pub(super) struct Kubernetes;

/// The versions, the newest first.
const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// The variable in which a client passes its `ExecCredential`.
const VARIABLE: &str = "KUBERNETES_EXEC_INFO";

impl Protocol for Kubernetes {
    fn answer(&self, call: &Call<'_>) -> Result<u8, Error> {
        if !call.args.words.is_empty() {
            return Err(call.unknown_words());
        }
        let asked = call.json_variable(VARIABLE)?.unwrap_or(Value::Null);
        let version = match &asked["apiVersion"] {
            Value::Null => VERSIONS[0],
            asked => VERSIONS.into_iter().find(|known| asked == *known).ok_or_else(|| {
                let message = format!("{VARIABLE} has an unknown `apiVersion`");
                let hint = format!("use apiVersion {} in the user's `exec` section", VERSIONS[0]);
                Error::msg(ErrorCode::Usage, message, hint)
            })?,
        };
        // Only if the user's `exec` section has `provideClusterInfo`.
        if let Some(server) = asked["spec"]["cluster"]["server"].as_str() {
            server.parse::<ToolHost>().map_err(|error| {
                Error::new(ErrorCode::Usage, anyhow::Error::new(error), "use the https address of the cluster")
            })?;
        }
        call.with_token(None, false, &|token| {
            let mut status = json!({"token": token.text});
            if let Some(at) = token.expires_at {
                status["expirationTimestamp"] = json!(at.to_string());
            }
            output::json(&json!({"kind": "ExecCredential", "apiVersion": version, "spec": {}, "status": status}))
                .map(|()| 0)
        })
    }

    fn setup(&self, call: &Call<'_>) -> Result<Vec<Change>, Error> {
        if !call.args.hosts.is_empty() {
            let hint = Hint::command("helper kubernetes").with_flag("--setup");
            return Err(Error::msg(
                ErrorCode::Usage,
                "kubectl's set-up has no --host: the cluster is in kubeconfig",
                hint,
            ));
        }
        let profile = call.app.profile(None)?.name;
        let user = format!("authctl-{profile}");
        let kubectl = |words: &[String]| -> Vec<String> {
            ["kubectl", "config"].iter().map(|word| (*word).to_owned()).chain(words.iter().cloned()).collect()
        };
        let mut start = program(call.app)?;
        let mut add = vec!["set-credentials".to_owned(), user.clone(), format!("--exec-command={}", start.remove(0))];
        add.push(format!("--exec-api-version={}", VERSIONS[1]));
        let id_token = call.args.id_token.then_some("--id-token");
        start.extend(
            ["helper", "kubernetes", "--profile", profile.as_str()].into_iter().chain(id_token).map(str::to_owned),
        );
        add.extend(start.iter().map(|word| format!("--exec-arg={word}")));
        Ok(vec![
            Change::Commands {
                shown: kubectl(&[
                    "view".to_owned(),
                    "-o".to_owned(),
                    format!("jsonpath={{.users[?(@.name==\"{user}\")].name}}"),
                ]),
                expected: user.clone(),
                add: vec![kubectl(&add)],
                remove: vec![kubectl(&["unset".to_owned(), format!("users.{user}")])],
            },
            Change::Note(format!("use it in a context: kubectl config set-context --current --user={user}")),
        ])
    }
}
