//! The exec credential plugins of Kubernetes clients: `client.authentication.k8s.io/v1` and `v1beta1`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::call::{Call, foreign, unreadable};
use super::kubeconfig::with_user;
use super::program::{is_authctl, program};
use super::protocol::Protocol;
use super::setup::{Change, TextEdit, printed, read};
use crate::app::App;
use crate::cmd::output;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ProfileName, ToolHost};
use crate::paths::{self, tool_variable};
use crate::text::shell_line;

pub(super) struct Kubernetes;

/// The versions, the newest first.
const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// The variable in which a client passes its `ExecCredential`.
const VARIABLE: &str = "KUBERNETES_EXEC_INFO";

/// Suggests the set-up that kubectl needs.
fn set_up(call: &Call<'_>) -> Hint {
    let hint = Hint::command("helper kubernetes").with_flag("--setup");
    call.for_profile(hint.clone()).unwrap_or(hint)
}

impl Protocol for Kubernetes {
    fn answer(&self, call: &Call<'_>) -> Result<u8, Error> {
        if !call.args.words.is_empty() {
            return Err(call.unknown_words());
        }
        let asked = call.json_variable(VARIABLE)?.unwrap_or_else(|| json!({}));
        if !asked.is_object() {
            return Err(unreadable(anyhow::anyhow!("{VARIABLE} is not an object")));
        }
        let version = match &asked["apiVersion"] {
            Value::Null => VERSIONS[0],
            asked => VERSIONS.into_iter().find(|known| asked == *known).ok_or_else(|| {
                let message = format!("{VARIABLE} has an unknown `apiVersion`");
                Error::msg(ErrorCode::Usage, message, set_up(call))
            })?,
        };
        // Only if the user's `exec` section has `provideClusterInfo`.
        if let cluster @ Value::Object(_) = &asked["spec"]["cluster"] {
            cluster["server"]
                .as_str()
                .unwrap_or_default()
                .parse::<ToolHost>()
                .map_err(|error| Error::new(ErrorCode::Usage, anyhow::Error::new(error), set_up(call)))?;
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
            let hint = set_up(call);
            return Err(Error::msg(
                ErrorCode::Usage,
                "kubectl's set-up has no --host: the cluster is in kubeconfig",
                hint,
            ));
        }
        let profile = call.profile_of_set_up()?;
        let user = user_of(&profile);
        let mut words = program(call.app)?;
        words.extend(["helper", "kubernetes", "--profile", profile.as_str()].map(str::to_owned));
        words.extend(call.args.id_token.then(|| "--id-token".to_owned()));
        let (name, same) = (user.clone(), user.clone());
        Ok(vec![
            Change::Commands {
                file: kubeconfig(call.app, &user)?,
                shown: kubectl(["view", "-o", "json"]),
                plan: Box::new(move |shown, add| plan(&name, &words, shown, add)),
                on_copy,
                edit: Some(TextEdit {
                    // With secrets, so that each setting counts.
                    shown: kubectl(["view", "--raw", "-o", "json"]),
                    edited: Box::new(move |text, shown, line_end| {
                        with_user(text, &same, find_user(shown, &same).map(|found| &found["user"]), line_end)
                    }),
                }),
            },
            Change::Note(format!("use it in a context: kubectl config set-context --current --user={user}")),
        ])
    }

    /// The user in kubeconfig, and the contexts that have it.
    fn places_of(
        &self,
        app: &App,
        old: &ProfileName,
        new: Option<&ProfileName>,
    ) -> Result<Vec<(String, String)>, Error> {
        let user = user_of(old);
        let file = kubeconfig(app, &user)?;
        // Most users have none: kubectl need not be started for them.
        if !read(&file)?.contains(&user) {
            return Ok(Vec::new());
        }
        let shown = printed(app, &kubectl(["view", "-o", "json"]))?.unwrap_or_default();
        if plan(&user, &[], &shown, false)?.is_empty() {
            return Ok(Vec::new());
        }
        let config: Value = serde_json::from_str(&shown).unwrap_or_default();
        let helper = |mode: &str, profile: &ProfileName| {
            let hint = Hint::command("helper").with_argument("kubernetes").with_flag(mode);
            hint.with_option("--profile", profile.as_str())
        };
        let mut commands = vec![app.next_command(helper("--remove", old))];
        if let Some(new) = new {
            let exec = find_user(&config, &user).map(|found| &found["user"]["exec"]["args"]).and_then(Value::as_array);
            let has_id_token = exec.is_some_and(|words| words.contains(&json!("--id-token")));
            let write = helper("--write", new);
            commands.push(app.next_command(if has_id_token { write.with_flag("--id-token") } else { write }));
            let contexts = config["contexts"].as_array().into_iter().flatten();
            let of_user = contexts.filter(|context| context["context"]["user"] == user);
            let set = |name| shell_line(kubectl(["set-context", name, &format!("--user={}", user_of(new))]));
            commands.extend(of_user.filter_map(|context| context["name"].as_str()).map(set));
        }
        Ok(vec![(file.display().to_string(), commands.join(" && "))])
    }
}

/// Returns the user in kubeconfig that has the tokens of a profile.
fn user_of(profile: &ProfileName) -> String {
    format!("authctl-{profile}")
}

fn kubectl<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    ["kubectl", "config"].into_iter().chain(words).map(str::to_owned).collect()
}

/// Returns a command of kubectl for this file.
fn on_copy(words: &[String], file: &str) -> Vec<String> {
    let option = ["--kubeconfig".to_owned(), file.to_owned()];
    words[..1].iter().chain(&option).chain(&words[1..]).cloned().collect()
}

/// Returns the files of `KUBECONFIG`.
fn named_files() -> Vec<PathBuf> {
    let named = tool_variable("KUBECONFIG").unwrap_or_default();
    std::env::split_paths(&named).filter(|file| !file.as_os_str().is_empty()).collect()
}

/// Returns the file of `KUBECONFIG` that kubectl changes: the one that has the user, else the first that exists, else the last.
fn kubeconfig(app: &App, user: &str) -> Result<PathBuf, Error> {
    let files = named_files();
    let has_user = |file: &PathBuf| {
        let shown = on_copy(&kubectl(["view", "-o", "json"]), &file.to_string_lossy());
        let config: Value = serde_json::from_str(&printed(app, &shown)?.unwrap_or_default()).unwrap_or_default();
        Ok::<_, Error>(find_user(&config, user).is_some())
    };
    match &files[..] {
        [] => Ok(paths::home()?.join(".kube/config")),
        [file] => Ok(file.clone()),
        [.., last] => {
            for file in &files {
                if has_user(file)? {
                    return Ok(file.clone());
                }
            }
            Ok(files.iter().find(|file| file.exists()).unwrap_or(last).clone())
        }
    }
}

/// Returns the user of this name in what kubectl shows.
fn find_user<'a>(config: &'a Value, name: &str) -> Option<&'a Value> {
    config["users"].as_array().into_iter().flatten().find(|found| found["name"] == name)
}

/// Returns the commands for a user whose `exec` section starts the words.
fn plan(user: &str, words: &[String], shown: &str, add: bool) -> Result<Vec<Vec<String>>, Error> {
    let config: Value = serde_json::from_str(shown).unwrap_or_default();
    let found = find_user(&config, user);
    let exec = found.map(|found| &found["user"]["exec"]);
    let is_ours = exec.is_some_and(|exec| exec["command"].as_str().is_some_and(is_authctl));
    if !add {
        return Ok(if is_ours { vec![kubectl(["unset", &format!("users.{user}")])] } else { Vec::new() });
    }
    if found.is_some() && !is_ours {
        return Err(foreign(format!("kubeconfig has another user {user}"), Hint::shell("kubectl config view")));
    }
    let is_same = exec.is_some_and(|exec| exec["command"] == words[0] && exec["args"] == json!(words[1..]));
    if is_same {
        return Ok(Vec::new());
    }
    let options = [format!("--exec-command={}", words[0]), format!("--exec-api-version={}", VERSIONS[1])];
    let arguments = words[1..].iter().map(|word| format!("--exec-arg={word}"));
    let mut command = kubectl(["set-credentials", user]);
    command.extend(options.into_iter().chain(arguments));
    Ok(vec![command])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_in_kubeconfig_is_changed_only_where_it_differs() {
        let words = ["/bin/authctl", "helper", "kubernetes"].map(str::to_owned);
        let shown = |exec: Value| json!({"users": [{"name": "authctl-a", "user": {"exec": exec}}]}).to_string();
        let commands = |shown: &str, add| plan("authctl-a", &words, shown, add).map(|commands| commands.len()).ok();
        let same = shown(json!({"command": "/bin/authctl", "args": ["helper", "kubernetes"], "apiVersion": "mine"}));
        let more = shown(json!({"command": "/bin/authctl", "args": ["helper", "kubernetes", "--id-token"]}));
        let older = shown(json!({"command": "/old/authctl", "args": ["helper", "kubernetes"]}));
        let other = shown(json!({"command": "/bin/other", "args": ["helper", "kubernetes"]}));
        let certificate = json!({"users": [{"name": "authctl-a", "user": {}}]}).to_string();
        for (shown, add, remove) in [
            ("", Some(1), Some(0)),
            (r#"{"users": null}"#, Some(1), Some(0)),
            (r#"{"users": [{"name": "authctl-b"}]}"#, Some(1), Some(0)),
            (&same, Some(0), Some(1)),
            (&more, Some(1), Some(1)),
            (&older, Some(1), Some(1)),
            (&other, None, Some(0)),
            (&certificate, None, Some(0)),
        ] {
            assert_eq!((commands(shown, true), commands(shown, false)), (add, remove), "{shown}");
        }
    }
}
