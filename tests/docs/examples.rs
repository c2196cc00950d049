//! The EXAMPLES of every command's manual page: what an example is for, and what to type.

/// The examples by page.
pub const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "authctl",
        &[
            ("Log in for the first time", "authctl login work --issuer https://issuer.example --client-id ID"),
            ("Call an API", CURL),
            ("See which sessions there are", "authctl status"),
            ("Try everything without an account anywhere", "authctl demo"),
        ],
    ),
    (
        "authctl-login",
        &[
            (
                "Log in with the browser, and create the profile `work`",
                "authctl login work --issuer https://issuer.example --client-id ID",
            ),
            ("Log in again, as the profile has it", "authctl login work"),
            ("Log in for an API, of which only the address is known", "authctl login --for https://mcp.example/mcp"),
            ("Log in on a server, with the browser of another machine", "authctl login work --device"),
            (
                "Start from what is known of a provider",
                "authctl login hub --provider github --client-id Iv1.0123456789",
            ),
            (
                "Log in as a service, with a secret from a file",
                "authctl login ci --issuer https://issuer.example --client-id ci \\\n    \
                 --client-credentials --client-secret-stdin < secret.txt",
            ),
            (
                "Log in as a service that signs with its own key",
                "authctl login ci --issuer https://issuer.example --client-id ci \\\n    \
                 --client-credentials --client-key ci-key.pem",
            ),
            (
                "Log in as a job of GitHub Actions, without a secret",
                "authctl login ci --issuer https://issuer.example --client-id ci \\\n    \
                 --workload github",
            ),
            (
                "Log in with a user name and a password from a file",
                "authctl login work --username alice --password-stdin < password.txt",
            ),
            ("Require that the user signed in within five minutes", "authctl login work --max-age 5m"),
            ("Store the session in an encrypted file", "authctl login work --store file"),
        ],
    ),
    (
        "authctl-headers",
        &[
            ("Print the header for a request to an API", "authctl headers --for https://mcp.example/mcp"),
            ("Print it as JSON, for a program", "authctl headers --for https://mcp.example/mcp --json"),
        ],
    ),
    (
        "authctl-proxy",
        &[
            (
                "Let a program read from an API that it has no token for",
                "authctl proxy work --for https://api.example/v1 --read-only",
            ),
            (
                "Allow two kinds of requests for an hour",
                "authctl proxy work --for https://api.example/v1 --ttl 1h \\\n    \
                 --allow 'GET /v1/items/*' --allow 'POST /v1/search'",
            ),
            (
                "Listen at a socket of this user, which needs no key",
                "authctl proxy work --for https://api.example/v1 \\\n    \
                 --listen unix:$XDG_RUNTIME_DIR/api.sock",
            ),
        ],
    ),
    ("authctl-proxy-list", &[("See which proxies are running", "authctl proxy list")]),
    ("authctl-proxy-stop", &[("Stop all of them", "authctl proxy stop")]),
    (
        "authctl-proxy-install",
        &[
            ("Run a proxy at a socket of this user", "authctl proxy install work --for https://api.example/v1"),
            (
                "Run it at a port, with its key in a file",
                "authctl proxy install work --for https://api.example/v1 \\\n    \
                 --listen 127.0.0.1:8081 --key-file ~/.config/api.key",
            ),
        ],
    ),
    ("authctl-proxy-uninstall", &[("Stop the service and remove its files", "authctl proxy uninstall work")]),
    (
        "authctl-status",
        &[
            ("Show every profile", "authctl status"),
            ("See why a profile is used, and where its session is stored", "authctl status work --long"),
            ("Watch the sessions until Ctrl-C", "authctl status --watch"),
            ("Show the profile for a shell prompt, as in PS1 of bash", "authctl status --short 2>/dev/null"),
            ("Log in only where it is needed", "authctl status work --check || authctl login work"),
        ],
    ),
    (
        "authctl-whoami",
        &[
            ("See the account that commands use here", "authctl whoami"),
            (
                "Stop a script that would run as another user",
                "authctl whoami work | grep -qx ann@example.com || exit 1",
            ),
        ],
    ),
    (
        "authctl-help",
        &[("Explain a command", "authctl help token"), ("List the environment variables", "authctl help environment")],
    ),
    ("authctl-version", &[("Print the version as JSON", "authctl version --json")]),
    (
        "authctl-token",
        &[
            ("Call an API with curl. The token is in no command line, and without a token nothing is called", CURL),
            ("Get a token that is valid for at least ten minutes", "authctl token work --min-ttl 10m"),
            ("Get a token for another audience", "authctl token work --audience https://billing.example"),
            ("See when the token expires", "authctl status work --json"),
        ],
    ),
    (
        "authctl-verify",
        &[
            ("Verify the stored token", "authctl verify work"),
            ("See every check, and what was expected", "authctl verify work --explain"),
            (
                "Verify a token from elsewhere by the settings of a profile",
                "authctl verify - --profile work < token.txt",
            ),
            (
                "Verify a token without a profile",
                "authctl verify - --issuer https://issuer.example --audience api \\\n    --jwks keys.json < token.txt",
            ),
            (
                "Require a scope, a claim and a recent login",
                "authctl verify work --scope admin --claim tenant=blue \\\n    --max-auth-age 1h",
            ),
            (
                "Verify many tokens, one a line",
                "authctl verify - --batch --issuer https://issuer.example \\\n    \
                 --audience api --jwks keys.json < tokens.txt > verdicts.jsonl",
            ),
        ],
    ),
    (
        "authctl-refresh",
        &[
            ("Refresh now", "authctl refresh work"),
            ("Refresh every session that expires within an hour", "authctl refresh --all --if-expiring 1h"),
        ],
    ),
    (
        "authctl-ensure",
        &[
            ("Make sure of ten hours before a job starts", "authctl ensure work --for 10h && ./nightly-build"),
            ("Find out when a login will be required", "authctl ensure work --for 1h --json --no-input"),
        ],
    ),
    (
        "authctl-logout",
        &[
            ("Revoke the tokens and delete the session", "authctl logout work"),
            ("Log out of every profile", "authctl logout --all"),
            ("Sign out at the issuer too, in the browser", "authctl logout work --end-session"),
        ],
    ),
    (
        "authctl-exec",
        &[
            ("Run a program with the token in AUTHCTL_TOKEN", "authctl exec work ./deploy --all"),
            ("Run it with the token of the default profile", "authctl exec -- ./deploy"),
            ("Put the token in another variable", "authctl exec work --env GITLAB_TOKEN -- ./release"),
            ("Keep it fresh in a file while a long job runs", "authctl exec work --file job.token -- ./train"),
        ],
    ),
    (
        "authctl-mcp",
        &[
            ("What an MCP client starts for a server", "authctl mcp https://api.example/mcp"),
            ("With the token of a profile", "authctl mcp https://api.example/mcp --profile work"),
            ("Open the browser when the server asks for a login", "authctl mcp https://api.example/mcp --browser"),
        ],
    ),
    (
        "authctl-helper",
        &[
            ("Let git clone and push with the token", "authctl helper git --write --profile work --host git.example"),
            ("Undo it", "authctl helper git --remove --profile work --host git.example"),
            ("Let AWS clients assume a role", "authctl helper aws --write --role-arn \"$ROLE\""),
            ("Keep the token in a file", "authctl helper file /run/user/1000/token --write --profile work"),
            ("Pull and push images", "authctl helper docker --write --profile work --host registry.example"),
            (
                "See how kubectl is set up with the ID token",
                "authctl helper kubernetes --setup --profile work --id-token",
            ),
            (
                "Install packages from a private index",
                "authctl helper keyring --write --profile work --host index.example",
            ),
        ],
    ),
    (
        "authctl-doctor",
        &[
            ("Find out why a command fails", "authctl doctor work"),
            ("Attach the result to a report; it has no secrets", "authctl doctor work --json > doctor.json"),
        ],
    ),
    (
        "authctl-agent",
        &[
            ("Start the agent, and see which process got a token", "authctl agent start\nauthctl agent log"),
            ("Have systemd or launchd start it", "authctl agent install"),
        ],
    ),
    (
        "authctl-agent-run",
        &[
            ("Run the agent in the foreground, with a line for every request to an issuer", "authctl agent run -vv"),
            ("Run it at another socket", "AUTHCTL_SOCK=$XDG_RUNTIME_DIR/authctl/second.sock authctl agent run"),
        ],
    ),
    (
        "authctl-agent-start",
        &[
            ("Start the agent; it is ready when the command returns", "authctl agent start"),
            ("Show a desktop notification when a session has ended", "authctl agent start --notify"),
            ("Ask for a login where a program needs one, and open the browser", "authctl agent start --login=ask"),
        ],
    ),
    ("authctl-agent-stop", &[("Restart the agent after an upgrade", "authctl agent stop && authctl agent start")]),
    (
        "authctl-agent-status",
        &[
            ("See whether an agent runs and is unlocked", "authctl agent status"),
            ("The same for a script", "authctl agent status --json"),
        ],
    ),
    ("authctl-store", &[("Set the passphrase of the file store", "authctl store passphrase")]),
    (
        "authctl-store-passphrase",
        &[
            ("Set the passphrase of the file store, or change it", "authctl store passphrase"),
            ("Start over after the passphrase is forgotten", "authctl store passphrase --forgotten"),
        ],
    ),
    (
        "authctl-agent-lock",
        &[
            ("Lock the agent", "authctl agent lock"),
            ("Lock it after half an hour without a request", "authctl agent lock --after 30m"),
            ("No longer lock it by itself", "authctl agent lock --after 0s"),
        ],
    ),
    (
        "authctl-agent-unlock",
        &[
            ("Unlock the agent", "authctl agent unlock"),
            (
                "Take the passphrase from another program",
                "secret-tool lookup service authctl-agent |\n    authctl agent unlock --passphrase-stdin",
            ),
        ],
    ),
    (
        "authctl-agent-log",
        &[
            ("See which process got which token", "authctl agent log"),
            ("Watch who uses the profile `work`", "authctl agent log --follow --profile work"),
            (
                "List the programs that got a token",
                "authctl agent log --json |\n    jq -r '.entries[].executable' | sort -u",
            ),
        ],
    ),
    (
        "authctl-agent-install",
        &[
            ("See what would be written", "authctl agent install --print"),
            ("Install the service", "authctl agent install"),
        ],
    ),
    ("authctl-agent-uninstall", &[("Stop the service and remove its files", "authctl agent uninstall")]),
    (
        "authctl-keys",
        &[("See the trusted keys, and fetch them again", "authctl keys show work\nauthctl keys update work")],
    ),
    ("authctl-keys-show", &[("See the trusted keys and their age", "authctl keys show work")]),
    ("authctl-keys-update", &[("Fetch the keys before going offline", "authctl keys update work")]),
    ("authctl-keys-pin", &[("Trust only the keys in a file", "authctl keys pin work --jwks issuer-keys.json")]),
    ("authctl-keys-unpin", &[("Trust the keys that the issuer publishes", "authctl keys unpin work")]),
    ("authctl-profile", &[("List the profiles, and show one", "authctl profile list\nauthctl profile show work")]),
    ("authctl-profile-list", &[("List the profiles; the default is marked", "authctl profile list")]),
    (
        "authctl-profile-show",
        &[
            ("Show the settings of a profile", "authctl profile show work"),
            ("The same for a script", "authctl profile show work --json"),
        ],
    ),
    (
        "authctl-profile-set",
        &[
            (
                "Request tokens for an API",
                "authctl profile set work audience=https://api.example \\\n    scopes='openid offline_access'",
            ),
            ("Deny tokens once the issuer was unreachable for a week", "authctl profile set work max_offline=7d"),
            ("Remove a setting", "authctl profile set work audience="),
        ],
    ),
    (
        "authctl-profile-remove",
        &[("Log out, then remove the profile", "authctl logout work && authctl profile remove work")],
    ),
    ("authctl-profile-rename", &[("Rename a profile with its session", "authctl profile rename work client-a")]),
    (
        "authctl-profile-export",
        &[("Copy a profile to another machine", "authctl profile export work | ssh host authctl profile import -")],
    ),
    (
        "authctl-profile-import",
        &[
            (
                "Add the profiles of a colleague, then log in",
                "authctl profile import profiles.toml && authctl login work",
            ),
            ("Replace a profile that exists", "authctl profile import profiles.toml --replace --profile work"),
        ],
    ),
    ("authctl-profile-use", &[("Make a profile the default", "authctl profile use work")]),
    (
        "authctl-completion",
        &[
            (
                "Bash: load the completions in new shells (needs the package bash-completion)",
                "mkdir -p ~/.local/share/bash-completion/completions\n\
                 authctl completion bash \\\n    > ~/.local/share/bash-completion/completions/authctl",
            ),
            (
                "Zsh, with `fpath=(~/.zfunc $fpath)` before `compinit` in ~/.zshrc",
                "mkdir -p ~/.zfunc\nauthctl completion zsh > ~/.zfunc/_authctl",
            ),
            (
                "Fish",
                "mkdir -p ~/.config/fish/completions\n\
                 authctl completion fish > ~/.config/fish/completions/authctl.fish",
            ),
            ("PowerShell, in $PROFILE", "authctl completion powershell | Out-String | Invoke-Expression"),
            ("Elvish, in ~/.config/elvish/rc.elv", "eval (authctl completion elvish | slurp)"),
        ],
    ),
    ("authctl-demo", &[("Run through a session's lifecycle", "authctl demo")]),
    (
        "authctl-dev-issuer",
        &[
            ("Run an issuer on a free port; it prints how to log in", "authctl dev-issuer"),
            (
                "Try short tokens and refresh tokens without rotation",
                "authctl dev-issuer --access-token-ttl 30s --no-rotation",
            ),
            ("Let a test script make the issuer fail; its key is printed", "authctl dev-issuer --control --json"),
            ("Use your own users", "authctl dev-issuer --port 8080 --users users.txt"),
            (
                "Accept the identity tokens of a platform with these keys",
                "authctl dev-issuer --workload-jwks platform-keys.json",
            ),
        ],
    ),
];

/// A call with a token that is in no program's arguments.
const CURL: &str = "header=$(authctl token work --header) &&\n    \
                    printf '%s\\n' \"$header\" | curl --header @- https://api.example/v1";
