//! What the manual pages of the commands explain beyond `--help`.

/// Sections by page: a heading and its text. `DESCRIPTION` is continued, any other section is new. Paragraphs are separated
/// by empty lines. A line with two spaces in it is an item of a list: what comes before them, and what it means. Text between
/// backticks that begins with `authctl` is a command.
pub const DETAILS: &[(&str, &[(&str, &str)])] = &[
    (
        "authctl",
        &[
            (
                "DESCRIPTION",
                "Data is written to stdout, messages to stderr. With `--json` data and errors are JSON, and an error has a \
                 stable `code`. \
                 Without a terminal nothing is prompted for and no browser opens.\n\n\
                 A command uses the profile that is its argument, else the one in AUTHCTL_PROFILE, else the one that \
                 `.authctl.toml` names in the current directory or the nearest one above, else the default profile.",
            ),
            (
                "NETWORK",
                "HTTPS_PROXY or ALL_PROXY names a proxy (`http://`, `socks5://`, or `socks5h://`, which lets the proxy \
                 resolve names), with `user:password@` if it needs them. NO_PROXY lists the hosts that need none; loopback \
                 addresses never use it. An invalid proxy address is an error, and the proxy is not bypassed.\n\n\
                 Certificate authorities are the platform's, or those in SSL_CERT_FILE instead. `--ca-cert` of \
                 `authctl login` adds some for one profile.",
            ),
            (
                "TROUBLESHOOTING",
                "`authctl doctor` checks everything that authctl depends on and prints the command that solves each problem. \
                 Its output has no secrets: put it into a report, together with that of `authctl version`.\n\n\
                 Another profile is used than expected  `authctl status --long` shows which is used if none is named, and why.\n\
                 A setting has an unexpected value  `authctl profile show work` names the machine-wide file that it comes from.\n\
                 A login is required again and again  `authctl status work` shows whether the session can be refreshed; some \
                 issuers need the scope `offline_access` for that: `authctl profile set work scopes='openid offline_access'` and a login.\n\
                 A refresh fails  `authctl refresh work -vv` shows every request to the issuer and its response, without secrets.\n\
                 A token is denied  `authctl verify work --explain` shows what was checked. A valid token that an API refuses \
                 may be for another audience: set `audience` or `resources`.\n\
                 The issuer has new keys  `authctl keys update work` fetches them.\n\
                 No keychain is available  `authctl login work --store file` stores the session in an encrypted file.\n\
                 The agent does not respond, or is older than this program  `authctl agent stop` ends it; `authctl agent start` \
                 starts it again.",
            ),
            (
                "UNINSTALL",
                "These commands remove authctl and everything that it stored. The first one revokes the tokens at the \
                 issuers, and needs a connection to them.\n\n\
                 authctl logout --all  Revokes the tokens and deletes the sessions\n\
                 authctl agent uninstall  Stops the service of `authctl agent install` and removes its files\n\
                 authctl agent stop  Stops an agent that was started otherwise\n\
                 secret-tool clear service authctl  Deletes the issuers' keys from the keychain, on Linux\n\
                 rm -r ~/.config/authctl ~/.local/share/authctl  Deletes the profiles, the key of the file store and the \
                 list of revoked tokens\n\
                 sudo apt remove authctl  Removes the program, if it was installed as a Debian package\n\
                 cargo uninstall authctl  Removes the program, if Cargo installed it\n\n\
                 Shells keep completion scripts where authctl-completion(1) has them written.",
            ),
        ],
    ),
    (
        "authctl-doctor",
        &[
            (
                "DESCRIPTION",
                "Checks the configuration, the profile, the agent's socket, the agent, the store, the session, the proxy, name \
                 resolution, the connection and TLS to the issuer, this machine's clock against the issuer's, the issuer's \
                 metadata and its keys. Each check is one line: `ok`, `warning`, `error` or `skipped`, the check, and what was \
                 found. Below a problem is the command that solves it, or advice if no command does.\n\n\
                 `warning` means that commands work, but not as they could: no agent is running, or a login is required. \
                 `skipped` means that a check does not apply, or that an earlier one failed.\n\n\
                 The checks of the store end after 10 seconds, and those of the issuer after 20. The store is checked as \
                 before a login: its directory and key are created if they are missing. Nothing else is changed, and nothing \
                 is prompted for.\n\n\
                 The output can be pasted into a report: it has no token, no secret and no user name or password of a proxy, \
                 and the home directory is shown as `~`.",
            ),
            ("EXIT STATUS OF CHECKS", "The exit status is that of the first error, and 0 if there are only warnings."),
        ],
    ),
    (
        "authctl-login",
        &[(
            "DESCRIPTION",
            "The first login of a profile creates it, with the settings given as options; authctl.toml(5) describes \
                 them. Later logins need no options. The tokens are verified and the store is checked before anything is \
                 stored.\n\n\
                 At a terminal a first login asks for provider, issuer and client ID where they are missing, and prints the \
                 same login as a command. A domain or an e-mail address is enough for the issuer: it is found by WebFinger \
                 (RFC 7033), else at the domain itself.\n\n\
                 `--for` needs only the address of an API. Its metadata names the issuer and the scopes (RFC 9728); an API without \
                 any is its own issuer, as in version 2025-03-26 of the Model Context Protocol. The client is the one of `--client-id`; \
                 else that of a client ID metadata document, if the issuer takes one; else authctl registers one at the issuer (RFC \
                 7591) and deletes it at the logout. The first login shows the API, the issuer, the scopes and the redirect \
                 URI, and asks whether to go on; `--yes` answers that. If the API later names another issuer, the login fails \
                 unless `--issuer` names it or `--accept-new-issuer` is given.\n\n\
                 Without an option for the grant, the profile's is used: the browser on this machine unless it was changed. \
                 Over SSH, in a container and without a display a code for a browser elsewhere is shown instead, if the \
                 issuer supports it. BROWSER may name the browser, as a command with arguments.\n\n\
                 Register a public or native client at the issuer, with the redirect URI `http://127.0.0.1/callback`. \
                 authctl adds a free port, as RFC 8252 describes.\n\n\
                 `--acr-values`, `--max-age` and `--prompt` make the user authenticate more strongly or again. The login \
                 fails if the user signed in longer ago than `--max-age`, and warns if the level is lower than requested.\n\n\
                 `--workload` needs no user and no secret: the platform that runs the program (GitHub Actions, GitLab CI/CD, \
                 Kubernetes, or any that writes a file or has a command) vouches for it with a JWT, which the issuer must \
                 trust. See authctl.toml(5).\n\n\
                 Some issuers return a refresh token only with `--authorization-parameter prompt=consent`. A login \
                 without one warns that the session cannot be refreshed.\n\n\
                 Of two logins with a browser to the same profile, the second waits for the first and uses its session. A \
                 session of another account is replaced only after a question, or with `--replace`.",
        )],
    ),
    (
        "authctl-status",
        &[(
            "DESCRIPTION",
            "The status is read from the store; no issuer is asked. Every profile is a line: `*` marks the one that commands \
             use if none is named, `!` one whose last refresh failed or whose store cannot be read, and `x` one that \
             requires a login. Below them is what each of those needs. With a profile or `--long`, every detail is shown, \
             and why the profile is used: `--profile`, AUTHCTL_PROFILE, the file of the directory, or the default.\n\n\
             `--check` exits with 0 if a token can be obtained without a login, with 3 if a login is required or if the \
             token has expired and the last refresh failed, and with 7 if the store cannot be read.\n\n\
             Without `--check`, the status is printed also if a part of it cannot be determined, which is left out. The exit \
             status is then 7 if a store cannot be read, and 2 if the configuration of a profile, the file of the \
             directory or AUTHCTL_PROFILE is invalid.\n\n\
             `--watch` shows the status every two seconds, and ends with 130 on Ctrl-C. In a pipe it prints only changes, \
             and ends when the reader does.\n\n\
             `--short` is for a shell prompt: the name of the profile, and its state unless it is signed in. It asks the \
             agent, which answers within a few milliseconds. Without an agent it reads the session of a profile in the \
             file store; it never waits for a keychain or a network, and shows only the name of a profile in a keychain.",
        )],
    ),
    (
        "authctl-whoami",
        &[(
            "DESCRIPTION",
            "The account is the user's name as the issuer gave it at the login, else the subject, else the client ID of a \
             client that logs in as itself. The exit code is 3 if a login is required. For a token in AUTHCTL_TOKEN it is \
             read from the token, without verification.",
        )],
    ),
    (
        "authctl-token",
        &[
            (
                "DESCRIPTION",
                "A stored token that is valid long enough is printed at once. Otherwise the session is refreshed first: once, \
                 however many processes need it. A token that is still valid is printed even if the refresh fails; the \
                 command then waits for it for at most two seconds.\n\n\
                 Tokens for other audiences, scopes and resources are obtained with the same session, stored beside its own, \
                 and deleted with it. An audience, or a resource that the login did not request, is obtained by token \
                 exchange (RFC 8693) if the issuer's metadata lists that grant type, which needs a valid access token \
                 and no refresh token; otherwise with the refresh token. An exchange that is refused leaves the session as \
                 it is.\n\n\
                 If AUTHCTL_TOKEN is set and no profile is named, that token is printed as it is.",
            ),
            (
                "TOKENS FOR AN API",
                "`authctl token --for https://mcp.example/mcp` prints a token of the profile with the longest resource that \
                 covers the URL, else of one that lists its host in `hosts`. Of a profile with several resources the token is \
                 for that one only. Without such a profile the exit code is 3, and the hint is the login. A profile that is named \
                 has to be for the URL as well, unless it has neither resources nor hosts: then it is up to the user where its \
                 token is sent. AUTHCTL_TOKEN is not used.\n\n\
                 `--challenge` reads the WWW-Authenticate header with which the API refused a token, or a whole head of a \
                 response. A refused token is refreshed once; what needs more (another scope, a stronger or a newer sign-in) is a \
                 login at a terminal, and exit code 3 with its command elsewhere. If the session already has what the API asks \
                 for, the exit code is 4.",
            ),
            (
                "FAILURES",
                "A token expires when its response states (`expires_in`), or earlier if it is a JWT whose own `exp` is earlier. An \
                 `expires_in` of 0 or below counts as absent. A token of unknown expiry is printed until `authctl refresh`.\n\n\
                 If the issuer is down, slow or replaced by a captive portal, the exit code is 6 once the token has expired. \
                 The session stays: only the issuer's own `invalid_grant` ends it (a login API's 401).\n\n\
                 If the reply to a refresh is lost, the request is sent once more at once; authctl-security(7) describes when.\n\n\
                 A full disk, a locked keychain and a read-only directory are detected before the refresh token is used. If the \
                 store fails after that, the command reports it and tries to store the refreshed session for 60 seconds. Ctrl-C \
                 during a refresh finishes it first.",
            ),
        ],
    ),
    (
        "authctl-verify",
        &[
            (
                "DESCRIPTION",
                "All reasons for a denial are reported together; with `--json` the claims or the reasons are printed. \
                 authctl-security(7) lists what is verified, authctl.toml(5) what a profile can require in addition.\n\n\
                 `--batch` reads a token a line from stdin and prints a line of JSON for each, in the same order. It exits \
                 with 0 only if every token is valid.",
            ),
            (
                "REASONS",
                "opaque_token  not a JWT, so only the issuer can judge it\n\
                 invalid_signature  the signature is not by a trusted key\n\
                 unknown_key  the token's key is not trusted, or several keys match\n\
                 weak_key  the key is too weak to be trusted\n\
                 algorithm_not_allowed  `alg` is not accepted, or not for this key\n\
                 unsupported_header  the header requires an extension that is not supported\n\
                 malformed  not a valid JWT, or a claim has the wrong type\n\
                 wrong_type  `typ` is that of another kind of token\n\
                 expired  `exp` has passed\n\
                 not_yet_valid  `nbf`, `iat` or `auth_time` is in the future\n\
                 wrong_issuer  `iss` is not the expected issuer\n\
                 wrong_audience  `aud` names no expected audience\n\
                 missing_claim  a required claim is missing\n\
                 claim_mismatch  a claim has another value than required\n\
                 revoked  revoked by a logout, the end of the session or a status list\n\
                 clock_rollback  the clock was set back\n\
                 keys_stale  the issuer's keys are older than `keys_max_age`\n\
                 offline_too_long  the issuer has not answered for `max_offline`",
            ),
        ],
    ),
    (
        "authctl-refresh",
        &[(
            "DESCRIPTION",
            "The session is refreshed even if its token is still valid, unless `--if-expiring` is given. The command \
             waits until the refresh has ended, for up to 90 seconds. A refresh that another process runs at the same time \
             counts. The issuer's keys are fetched too if they are older than an hour.",
        )],
    ),
    (
        "authctl-ensure",
        &[
            (
                "DESCRIPTION",
                "For a job that runs for hours without its user. The session is refreshed, which shows that the issuer still \
                 accepts it, unless the access token is valid for long enough. Then the command compares the required time \
                 with what is known of the end of the session:\n\n\
                 the refresh token  Its lifetime, if the issuer states it in the token response (`refresh_token_expires_in` or \
                 `refresh_expires_in`) or in the token itself, a JWT. If a refresh extends it, it does not end the session: \
                 an agent, or the job itself, has to refresh within that time again and again.\n\
                 the access token  Of a session that cannot be refreshed.\n\
                 the ID token  Of a profile that verifies it, if refreshes bring no new one.\n\
                 max_auth_age, max_offline  Settings of the profile, for tokens that are verified offline. `max_offline` \
                 counts only if the session cannot be refreshed: a refresh is a response of the issuer.\n\
                 the previous session  The age at which the issuer ended the session before this one, although it was \
                 refreshed regularly. The present one is assumed to end at the same age, unless it is older already.\n\
                 the identity token  The end of the workload's identity token, if the platform issues only one for a job: the \
                 token of GitLab CI/CD, the request token of GitHub Actions, or a file that nothing has replaced for longer \
                 than its token is valid. If another program may replace the file in time, the command only warns. A login does \
                 not help here.\n\n\
                 If none of these is known, the session is assumed to last long enough, and the command reports this. A client \
                 that logs in as itself needs no user, and neither does a workload whose identity token comes from a \
                 command.\n\n\
                 If the session ends too early, the command shows why at a terminal and logs in, as `authctl login` does. \
                 Then it examines the new session in the same way.",
            ),
            (
                "EXIT STATUS OF THE RESULT",
                "0  The session lasts long enough, as far as its end is known\n\
                 3  A login is required within that time, and it is not possible here: there is no terminal, or `--no-input` was given\n\
                 5  Even a new session ends too early (`session_too_short`), or the login was refused\n\
                 6  The issuer is unreachable, so nothing is sure",
            ),
        ],
    ),
    (
        "authctl-mcp",
        &[(
            "DESCRIPTION",
            "An MCP client starts this command, as it starts a local server, and writes JSON-RPC messages to its stdin. The \
                 command posts them to the server at URL over streamable HTTP, with the token of the profile, and prints what \
                 the server sends: one message a line, and nothing else on stdout. The client needs no token, and stores none.\n\n\
                 The profile is the one with the longest resource that covers the URL, as `authctl login` with `--for` creates it, or \
                 the one that `--profile` names, which must be for the URL unless it has neither resources nor hosts. The token in \
                 AUTHCTL_TOKEN is sent to no server: nothing shows which one it is for. The token comes from the agent where one runs, else from the store, and is \
                 refreshed before it expires. Without a profile, requests are sent without a token until the server asks for one.\n\n\
                 If the server refuses the token, it is refreshed once, and the request is sent again. What only a login resolves, \
                 such as a missing session or scope, is an error response to the request, at once: its message ends with the \
                 command to run, which is also `error.data.hint`, and `error.data.code` is the error code of authctl-json(7). After \
                 the login the next request succeeds. With `--browser` the command logs in itself, in one browser tab for all \
                 requests: a profile once in ten minutes, whatever the server asks for, and none in ten minutes after a login that was \
                 declined or failed. The first login at an issuer then needs `--yes`.\n\n\
                 Revisions 2025-03-26 to 2026-07-28 of the protocol are supported: a session that the server has lost is begun \
                 again without the client noticing, a response that was interrupted is resumed where the server allows it, and a \
                 cancellation reaches the server. Redirects are followed within the server only. A message has at most 16 MiB, \
                 and 128 requests may be open. A client that reads slowly slows the server down.\n\n\
                 The command ends when the client closes stdin, after the open requests or ten seconds, or at Ctrl-C or SIGTERM; \
                 it then ends the session with the server.",
        )],
    ),
    (
        "authctl-proxy",
        &[(
            "DESCRIPTION",
            "The profile is the one that is named, which must be for the URL of `--for` unless it has neither resources nor hosts, \
             else the one with the longest resource that covers the URL. Of several resources, the token is for that one. The token \
             in AUTHCTL_TOKEN is not used.\n\n\
             The rules are about the method and the path of a request. Headers by which some servers take a request for one with \
             another method, path or host, such as X-Forwarded-Host, are removed. A request with X-Original-URL or X-Rewrite-URL is \
             refused, and where a rule limits methods also one with X-HTTP-Method, X-HTTP-Method-Override or X-Method-Override. A \
             parameter such as `_method` in the body or in the query is not looked at. The only change of protocol that is passed on \
             is the one to WebSocket, and none with `--read-only` or `proxy_read_only`: what is sent after it is unknown. \
             `--max-requests` counts a request that is sent again each time. GET, HEAD and OPTIONS without a body are sent again \
             once if the connection or the HTTP/2 stream ended without a response; any request if the API refuses it over HTTP/2 \
             without processing it, unless its body has more than 1 MiB.\n\n\
             Callers speak HTTP/1.1 or 1.0; the API may speak HTTP/2 over TLS, so that gRPC-Web and trailers pass, but not the clients \
             of gRPC, which speak only HTTP/2. Responses with a status 1xx are not passed on, except the one that opens a WebSocket; \
             the proxy itself sends `100 Continue`. The request line and the headers have at most 64 KiB and 100 fields, and a \
             response of the API has at most 256 fields. The only transfer coding is `chunked`: a request with another is \
             answered with 501. A `'` in the query is passed on as `%27`.\n\n\
             Trailers that could not be headers are removed. Addresses of the API in `Location`, `Content-Location`, `Refresh` \
             and `Link` are rewritten as addresses of the proxy, so that a client that follows them stays there; those in a body \
             are not. A slash at the end of `--for` makes no difference.\n\n\
             A TCP connection on which no request with the key arrives within five seconds is closed. A client that closes its side \
             of the connection before the response is complete gets none: the proxy ends the request at the API, because over TCP \
             such a client looks like one that has gone. \
             In the log, a `400 (failed: request)` is an invalid or incomplete body of the client; `502 (failed: api)` is \
             an API that cannot be reached, breaks off or sends an invalid response, and `504 (failed: api)` one that does not respond in time.",
        )],
    ),
    (
        "authctl-logout",
        &[(
            "DESCRIPTION",
            "The refresh token and all access tokens are revoked at the issuer (RFC 7009), and the session is deleted. It is \
             deleted even if the revocation fails; the command then fails, and the tokens stay valid at the issuer until \
             they expire. On this machine they are denied at once, by `verify`, `exec` and the agent.",
        )],
    ),
    (
        "authctl-exec",
        &[(
            "DESCRIPTION",
            "The token is refreshed if needed and verified offline, as `authctl verify` does. If it is denied, the command is \
             not run and the exit code is 4. Otherwise authctl becomes the command, whose exit code is then that of \
             `authctl exec`. The token in the variable is not refreshed: a program that runs for longer than the token is \
             valid asks the agent (its socket is in AUTHCTL_SOCK) or `authctl token` for each, or reads it from a file.\n\n\
             With `--file`, the token is in the file PATH and not in the environment, and AUTHCTL_TOKEN_FILE has the path. \
             The file is a new one: one that exists is refused, and one that another program has changed is left alone. authctl \
             stays the parent of the command, replaces the token before it expires, passes signals on, and \
             removes the file when the command exits. A signal that a process sends to the whole process group reaches the command twice. A command that a signal ends exits with 128 and its number, as in a \
             shell. If authctl itself is killed, the file stays, and has to be removed. Each command that runs at the same time needs a file of its \
             own.\n\n\
             With `--proxy`, the command gets no token. The agent's socket and the variables from which a platform's job gets an \
             identity token are withheld from it. `--for`, `--allow`, `--read-only` and `--max-requests` are for `--proxy`. authctl stays the \
             parent of the command and passes signals on as with `--file`.\n\n\
             `--sandbox` also hides /run, /tmp, /var/tmp and the Unix sockets of other programs: those that the system lists, and those \
             below the home, the working and the `--bind` directories, which are searched when the command starts, for at most 5 s. A \
             warning names the first directory that this leaves. A socket that another program creates later in a directory that the command can see is not hidden. The command inherits \
             only stdin, stdout and stderr. It can open only Unix, IP and netlink sockets, and cannot use \
             keys in the kernel or put input into the terminal. Programs for another architecture, such as 32-bit ones, do not \
             run.\n\n\
             Without `--`, the first word is the profile and the next the command; with `--profile`, the first word is the \
             command. A command that is not found exits with 127, and one that cannot be run with 126, as in a shell.",
        )],
    ),
    (
        "authctl-helper",
        &[
            (
                "DESCRIPTION",
                "The tokens are refreshed if needed. A tool names the host that it needs a \
                 credential for, and gets the token of the profile that lists this host in `hosts` (authctl.toml(5)); no other \
                 host gets one. A host is reached over https, or over http on loopback. kubectl and the Google Cloud clients \
                 name no host: they get the token of the profile in `--profile`, or of the effective one.\n\n\
                 A helper never prompts and opens no browser. If a login is required, it fails, and the tool shows its user \
                 the command to run.\n\n\
                 `--setup` prints how a tool is set up, `--write` does it and `--remove` undoes it. `--write` replaces a \
                 set-up with other options or of an authctl in another place. Other helpers and settings of the tool stay as they are. \
                 A tool's file is changed as a whole or not at all: what fails or is interrupted leaves it as it was. If it is a \
                 symbolic link, the file that it leads to is changed.",
            ),
            (
                "TOOLS",
                "git  credential.URL.helper in git's configuration. git gets the token as a password that expires, or, from 2.46 \
                 on, as a Bearer token that no other helper stores. The setup puts its settings after those of other \
                 helpers in the user's configuration, so that git asks only authctl for the host. Run it again after adding a \
                 helper. A helper in a repository's configuration comes later: before 2.46, git gives it the token to store. A token that the server refuses is refreshed. \
                 git's settings in included files are not changed: if one of them names authctl, `--remove` names the file and fails.\n\
                 docker  Docker, Podman, Skopeo and others: `credHelpers` in ~/.docker/config.json, and the link \
                 docker-credential-authctl in ~/.local/bin.\n\
                 kubernetes  A user `authctl-PROFILE` in kubeconfig with an `exec` section. Comments and layout of the \
                 file stay; one in an unusual layout is left to kubectl, which drops comments, and is copied beside it \
                 first. `--id-token` for clusters that verify ID tokens.\n\
                 cargo  `global-credential-providers` in cargo's configuration. The registry gets `Authorization: Bearer TOKEN`.\n\
                 keyring  pip and uv with `--keyring-provider subprocess`: the link keyring in ~/.local/bin. The user name is \
                 oauth2, as in https://oauth2@index.example/simple. Requests for other hosts go to the `keyring` command that the \
                 link hides, if there is one.\n\
                 terraform  Terraform and OpenTofu: `credentials_helper` in ~/.terraformrc, and the link \
                 terraform-credentials-authctl in ~/.terraform.d/plugins. A file in JSON stays in JSON.\n\
                 google  `credential_source.executable` in the credential configuration of workload identity federation.\n\
                 aws  `credential_process` in the section of `--aws-profile` in ~/.aws/config. The role of `--role-arn` is assumed \
                 with AssumeRoleWithWebIdentity at the STS of the region, or at AWS_ENDPOINT_URL_STS; nothing is stored, so each \
                 start assumes it again. The role must trust issuer, audience and subject of the token. Its credentials last an hour, or \
                 `--role-duration`, at most what the role allows. `--setup` shows the lines for a token file too.\n\
                 azure  Azure clients with workload identity: a token file as below, and the variables to set.\n\
                 file  FILE has the access token, or with `--id-token` the ID token, for programs that read one. Without FILE, \
                 the file that the profile has already, else one beside the agent's socket.",
            ),
            (
                "TOKEN FILES",
                "`authctl helper file --write` sets `token_file` or `id_token_file` of the profile (authctl.toml(5)). Such a file \
                 has mode 0600, is replaced as a whole and never empty, and is removed at logout and when the session ends. \
                 Only while an agent runs is it refreshed ahead of expiry. Without one, it has the token of the last command \
                 that logged in or refreshed, which may have expired. A file with content that authctl \
                 did not write is neither replaced nor removed. If no token can be written, the setting stays and the command \
                 fails as `authctl token` does. A program has to read the file each time that it needs a token.",
            ),
            (
                "TESTED WITH",
                "authctl's tests run these tools unchanged against servers that check the token, and compare the bytes that each \
                 tool gets. Older and newer versions follow the same protocols.\n\n\
                 git 2.39 and 2.47  Clones, fetches and pushes over smart HTTP while tokens expire\n\
                 Docker 20.10 and 28.2, Skopeo 1.9  Push and inspect an image in docker-registry 2.8 with token authentication \
                 while tokens expire; `docker login` and `docker logout`\n\
                 kubectl 1.35, Python client 37.0  Call an API with v1 and v1beta1; 100 calls at once with an expired \
                 token refresh it once\n\
                 cargo 1.95  Builds with a crate from a private sparse registry\n\
                 pip 26.3, uv 0.13  Install a package from a private index. pip does not show why it has no password.\n\
                 Terraform 0.15 and 1.11  Gets a module from a private registry. Where Terraform is not installed, the tests \
                 take its steps by a script. It does not show why it has no token.\n\
                 AWS CLI 1.46, boto3 1.44  Assume a role at moto 5.2, by `credential_process` and by a token file\n\
                 google-auth 2.63  Exchanges the token at a stub of the token service, by the executable and by a token file\n\
                 azure-identity 1.27  Exchanges the token file at a stub of Microsoft Entra ID, over https\n\
                 file  A reader in a loop sees no empty, half or expired token in 100 refreshes by the agent",
            ),
        ],
    ),
    (
        "authctl-keys",
        &[(
            "DESCRIPTION",
            "The keys of an issuer are fetched at a login and at refreshes, and stored beside the session. `pin` replaces them \
             by those in a file, whatever the issuer publishes. All profiles of an issuer in the same store share them.",
        )],
    ),
    (
        "authctl-profile",
        &[(
            "DESCRIPTION",
            "A profile is a name for an issuer, a client, what is requested there, and where the session is stored. \
             `authctl login` creates it. Several accounts are several profiles, also at one issuer.",
        )],
    ),
    (
        "authctl-profile-list",
        &[(
            "DESCRIPTION",
            "A profile that a machine-wide file configures is shown with that file; authctl.toml(5) explains it.",
        )],
    ),
    (
        "authctl-profile-rename",
        &[(
            "DESCRIPTION",
            "The session, the default and the hosts go with the profile. What else names it is listed, with the command \
             that changes it: the set-up of kubectl and of AWS clients, a service of `authctl proxy install`, `.authctl.toml` \
             of the current directory, and AUTHCTL_PROFILE. Credential configurations of Google Cloud clients and \
             configurations of MCP clients are not known to authctl.",
        )],
    ),
    (
        "authctl-profile-export",
        &[(
            "DESCRIPTION",
            "The text is that of a configuration file, with every setting that has not its default, also those of \
             machine-wide files. It never has a secret or a session: comments name what the other machine needs besides, \
             such as a client secret or a key file. Hooks are left out.",
        )],
    ),
    (
        "authctl-profile-import",
        &[(
            "DESCRIPTION",
            "Everything in the file is checked before anything is written: an unknown setting, an http endpoint, a key \
             beside the profiles, a locked setting or a hook is an error, and nothing is changed. Import only files from people \
             whom you trust: a profile decides where you sign in and where tokens are sent. With `--profile`, only that \
             profile is imported.\n\n\
             `--replace` replaces all settings of a profile that exists. Its session stays, so the store must be the same, \
             and so do its hooks.",
        )],
    ),
    (
        "authctl-completion",
        &[(
            "DESCRIPTION",
            "The script has the shell run `authctl`, as found in PATH, for the candidates: commands, options, files, and what \
                 the configuration has: profiles, settings, scopes, issuers and the like. This reads only the configuration, \
                 never a store or the network, and prints no errors. A script stays valid when profiles change; print \
                 it again after an upgrade.",
        )],
    ),
    (
        "authctl-dev-issuer",
        &[(
            "DESCRIPTION",
            "The issuer listens on a loopback address and supports the browser, device, password and client credentials \
             grants, token exchange, rotating refresh tokens, revocation and status lists, and with `--workload-jwks` \
             the JWT bearer grant: another dev-issuer can play the platform. Its address is the first line on stdout.",
        )],
    ),
];
