# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_authctl_global_optspecs
    string join \n json q/quiet v/verbose no-input color= config= h/help V/version
end

function __fish_authctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_authctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_authctl_using_subcommand
    set -l cmd (__fish_authctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c authctl -n "__fish_authctl_needs_command" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_needs_command" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_needs_command" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_needs_command" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_needs_command" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_needs_command" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_needs_command" -s V -l version -d 'Print version'
complete -c authctl -n "__fish_authctl_needs_command" -f -a "login" -d 'Log in and store the session'
complete -c authctl -n "__fish_authctl_needs_command" -f -a "status" -d 'Show each profile\'s session: user, expiry and store'
complete -c authctl -n "__fish_authctl_needs_command" -f -a "token" -d 'Print a valid access token, refreshed first if necessary'
complete -c authctl -n "__fish_authctl_needs_command" -f -a "verify" -d 'Verify a token offline: signature, expiry, issuer, audience'
complete -c authctl -n "__fish_authctl_needs_command" -f -a "refresh" -d 'Refresh a session now'
complete -c authctl -n "__fish_authctl_needs_command" -f -a "logout" -d 'Revoke a session\'s tokens and delete the session'
complete -c authctl -n "__fish_authctl_needs_command" -f -a "exec" -d 'Verify a session\'s token, then run a command with it'
complete -c authctl -n "__fish_authctl_needs_command" -f -a "agent" -d 'Run the agent, which caches tokens and serves them over a Unix socket'
complete -c authctl -n "__fish_authctl_needs_command" -f -a "keys" -d 'Show and change the trusted issuer keys'
complete -c authctl -n "__fish_authctl_needs_command" -f -a "profile" -d 'Show and change the configured profiles'
complete -c authctl -n "__fish_authctl_needs_command" -f -a "doctor" -d 'Check the configuration, the store, the agent and the connection to the issuer'
complete -c authctl -n "__fish_authctl_needs_command" -f -a "demo" -d 'Run through a session\'s lifecycle against the embedded issuer'
complete -c authctl -n "__fish_authctl_needs_command" -f -a "dev-issuer" -d 'Run the embedded issuer by itself, on loopback, for trying and testing'
complete -c authctl -n "__fish_authctl_using_subcommand login" -l issuer -d 'Use this issuer, https except on loopback' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l client-id -d 'Use this client ID, as registered at the issuer' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l client-auth -d 'Authenticate the client with this method [default: none]' -r -f -a "none\t''
client_secret_basic\t''
client_secret_post\t''
private_key_jwt\t''"
complete -c authctl -n "__fish_authctl_using_subcommand login" -l scope -d 'Request this scope; repeatable' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l audience -d 'Request tokens for this audience' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l resource -d 'Request tokens for this resource (RFC 8707); repeatable' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l store -d 'Store the session here' -r -f -a "keychain\t''
file\t''"
complete -c authctl -n "__fish_authctl_using_subcommand login" -l ca-cert -d 'Trust the certificate authorities in this PEM file, besides the platform\'s' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l provider -d 'Start from the preset of this provider' -r -f -a "google\t''
github\t''
gitlab\t''
microsoft\t''
facebook\t''
apple\t''
keycloak\t''
auth0\t''
okta\t''
generic\t''"
complete -c authctl -n "__fish_authctl_using_subcommand login" -l token-endpoint -d 'Use this token endpoint, and request no metadata' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l authorization-endpoint -d 'Use this authorization endpoint' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l device-authorization-endpoint -d 'Use this device authorization endpoint' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l revocation-endpoint -d 'Use this revocation endpoint' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l end-session-endpoint -d 'Use this end session endpoint' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l userinfo-endpoint -d 'Use this userinfo endpoint' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l jwks-uri -d 'Fetch the issuer\'s keys from this address' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l redirect-uri -d 'Redirect the browser to this loopback address [default: http://127.0.0.1/callback]' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l authorization-parameter -d 'Add this parameter to the authorization request; repeatable' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l client-key -d 'Sign as the client with this private key, PEM or JWK' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l client-key-id -d 'Name the client\'s key by this ID (`kid`)' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l client-assertion-audience -d 'Sign client assertions for this audience: issuer, token_endpoint, or any text [default: issuer]' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l login-endpoint -d 'Log in at this API with user name and password as JSON' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l refresh-endpoint -d 'Refresh at this address of the API' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l logout-endpoint -d 'Report a logout to this address of the API' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l username-field -d 'Send the user name in this field [default: username]' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l password-field -d 'Send the password in this field [default: password]' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l access-token-field -d 'Read the JWT from this field' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l refresh-token-field -d 'Read and send the refresh token in this field' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l expires-in-field -d 'Read the lifetime of the JWT, in seconds, from this field' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l username -d 'Log in with this user name instead of prompting for one' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l acr-values -d 'Request one of these authentication context classes, separated by spaces (`acr_values`)' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l prompt -d 'Request this prompt of the issuer: none, login, consent or select_account' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l login-hint -d 'Suggest this user to the issuer (`login_hint`)' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l max-age -d 'Require that the user signed in no longer ago than this (`max_age`)' -r
complete -c authctl -n "__fish_authctl_using_subcommand login" -l jwks -d 'Trust only the keys in this file: a JWK Set or PEM public keys' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand login" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand login" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand login" -l browser -d 'Log in with the browser on this machine (authorization code with PKCE); the default'
complete -c authctl -n "__fish_authctl_using_subcommand login" -l device -d 'Log in with a browser on another device: print a URL and a code (RFC 8628)'
complete -c authctl -n "__fish_authctl_using_subcommand login" -l password -d 'Log in with a user name and a password, prompted for'
complete -c authctl -n "__fish_authctl_using_subcommand login" -l client-credentials -d 'Log in as the client itself (client credentials)'
complete -c authctl -n "__fish_authctl_using_subcommand login" -l with-token -d 'Read a token response (JSON) or a JWT from stdin'
complete -c authctl -n "__fish_authctl_using_subcommand login" -l no-browser -d 'Print the URL to open, and prompt for the address that the browser is redirected to'
complete -c authctl -n "__fish_authctl_using_subcommand login" -l client-secret-stdin -d 'Read the client secret from the first line of stdin'
complete -c authctl -n "__fish_authctl_using_subcommand login" -l password-stdin -d 'Read the password from a line of stdin'
complete -c authctl -n "__fish_authctl_using_subcommand login" -l replace -d 'Replace the session of another user without prompting'
complete -c authctl -n "__fish_authctl_using_subcommand login" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand login" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand login" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand login" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand login" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand status" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand status" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand status" -l check -d 'Print nothing; exit 0 if a token is available without a login, 3 if not'
complete -c authctl -n "__fish_authctl_using_subcommand status" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand status" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand status" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand status" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand token" -l min-ttl -d 'Refresh first if the token expires within this time [default: 60s, at most half its lifetime; 0 for an ID token]' -r
complete -c authctl -n "__fish_authctl_using_subcommand token" -l audience -d 'Request a token for this audience' -r
complete -c authctl -n "__fish_authctl_using_subcommand token" -l scope -d 'Request a token with this scope; repeatable' -r
complete -c authctl -n "__fish_authctl_using_subcommand token" -l resource -d 'Request a token for this resource (RFC 8707); repeatable' -r
complete -c authctl -n "__fish_authctl_using_subcommand token" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand token" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand token" -l id-token -d 'Print the ID token instead of the access token'
complete -c authctl -n "__fish_authctl_using_subcommand token" -l header -d 'Print an `Authorization: Bearer ...` header'
complete -c authctl -n "__fish_authctl_using_subcommand token" -l refresh-only -d 'Refresh if necessary and print nothing: what `token` starts in the background'
complete -c authctl -n "__fish_authctl_using_subcommand token" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand token" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand token" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand token" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand token" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l profile -d 'Use this profile\'s issuer, audience and keys; with `-`' -r
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l issuer -d 'Expect this issuer, compared exactly' -r
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l audience -d 'Accept this audience; repeatable' -r
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l jwks -d 'Trust the keys in this file: a JWK Set or PEM public keys' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l algorithms -d 'Accept only these algorithms, separated by commas' -r
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l leeway -d 'Allow for clocks that differ by this much' -r
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l typ -d 'Accept this `typ`; repeatable [default: none, JWT or at+jwt]' -r
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l scope -d 'Require this scope; repeatable' -r
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l claim -d 'Require this value of the claim; repeatable' -r
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l max-auth-age -d 'Require that the user signed in no longer ago than this (`auth_time`)' -r
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l acr -d 'Require one of these authentication context classes; repeatable' -r
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l amr -d 'Require this authentication method; repeatable' -r
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l at -d 'Verify as of this time instead of now; with `-`' -r
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l ignore-status -d 'Do not check the status list that the token names'
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l explain -d 'Print each check with the expected and the actual value'
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l batch -d 'Read one JWT a line and print one line of JSON for each, in order; with `-`'
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand verify" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand verify" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand verify" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand refresh" -l if-expiring -d 'Refresh only if the token expires within this time' -r
complete -c authctl -n "__fish_authctl_using_subcommand refresh" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand refresh" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand refresh" -l all -d 'Refresh every profile that has a session'
complete -c authctl -n "__fish_authctl_using_subcommand refresh" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand refresh" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand refresh" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand refresh" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand refresh" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand logout" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand logout" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand logout" -l all -d 'Log out of every profile that has a session'
complete -c authctl -n "__fish_authctl_using_subcommand logout" -l no-revoke -d 'Do not revoke the tokens at the issuer'
complete -c authctl -n "__fish_authctl_using_subcommand logout" -l end-session -d 'Sign out of the issuer in the browser too (RP-initiated logout)'
complete -c authctl -n "__fish_authctl_using_subcommand logout" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand logout" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand logout" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand logout" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand logout" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand exec" -l env -d 'Set this environment variable to the token' -r
complete -c authctl -n "__fish_authctl_using_subcommand exec" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand exec" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand exec" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand exec" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand exec" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand exec" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand exec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and not __fish_seen_subcommand_from run start stop status lock unlock log install uninstall" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand agent; and not __fish_seen_subcommand_from run start stop status lock unlock log install uninstall" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand agent; and not __fish_seen_subcommand_from run start stop status lock unlock log install uninstall" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and not __fish_seen_subcommand_from run start stop status lock unlock log install uninstall" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and not __fish_seen_subcommand_from run start stop status lock unlock log install uninstall" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and not __fish_seen_subcommand_from run start stop status lock unlock log install uninstall" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and not __fish_seen_subcommand_from run start stop status lock unlock log install uninstall" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and not __fish_seen_subcommand_from run start stop status lock unlock log install uninstall" -f -a "run" -d 'Run in the foreground, as a service manager starts it'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and not __fish_seen_subcommand_from run start stop status lock unlock log install uninstall" -f -a "start" -d 'Start in the background, and return once the agent accepts connections'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and not __fish_seen_subcommand_from run start stop status lock unlock log install uninstall" -f -a "stop" -d 'Stop, after running refreshes have finished'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and not __fish_seen_subcommand_from run start stop status lock unlock log install uninstall" -f -a "status" -d 'Show whether the agent is running, and its state'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and not __fish_seen_subcommand_from run start stop status lock unlock log install uninstall" -f -a "lock" -d 'Lock, so that no token is issued until the agent is unlocked'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and not __fish_seen_subcommand_from run start stop status lock unlock log install uninstall" -f -a "unlock" -d 'Unlock with the passphrase'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and not __fish_seen_subcommand_from run start stop status lock unlock log install uninstall" -f -a "log" -d 'Show which process got a token of which profile, and when'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and not __fish_seen_subcommand_from run start stop status lock unlock log install uninstall" -f -a "install" -d 'Install a user service that starts the agent when its socket is first used'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and not __fish_seen_subcommand_from run start stop status lock unlock log install uninstall" -f -a "uninstall" -d 'Remove the user service'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from run" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from run" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from run" -l notify -d 'Show a desktop notification when a session needs a login'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from run" -l detach -d 'Detach from the terminal, and report on stdout once connections are accepted'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from run" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from run" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from run" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from run" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from start" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from start" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from start" -l notify -d 'Show a desktop notification when a session needs a login'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from start" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from start" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from start" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from start" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from start" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from stop" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from stop" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from stop" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from stop" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from stop" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from stop" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from stop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from status" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from status" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from status" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from status" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from status" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from status" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from lock" -l after -d 'Lock after this long without a request for a token, instead of now; 0s turns it off' -r
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from lock" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from lock" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from lock" -l passphrase-stdin -d 'Read the passphrase from the first line of stdin'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from lock" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from lock" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from lock" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from lock" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from lock" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from unlock" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from unlock" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from unlock" -l passphrase-stdin -d 'Read the passphrase from the first line of stdin'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from unlock" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from unlock" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from unlock" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from unlock" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from unlock" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from log" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from log" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from log" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from log" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from log" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from log" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from log" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from install" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from install" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from install" -l print -d 'Print the files instead of writing them'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from install" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from install" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from install" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from install" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from install" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from uninstall" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from uninstall" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from uninstall" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from uninstall" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from uninstall" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from uninstall" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand agent; and __fish_seen_subcommand_from uninstall" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and not __fish_seen_subcommand_from show update pin unpin" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand keys; and not __fish_seen_subcommand_from show update pin unpin" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand keys; and not __fish_seen_subcommand_from show update pin unpin" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and not __fish_seen_subcommand_from show update pin unpin" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and not __fish_seen_subcommand_from show update pin unpin" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and not __fish_seen_subcommand_from show update pin unpin" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and not __fish_seen_subcommand_from show update pin unpin" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and not __fish_seen_subcommand_from show update pin unpin" -f -a "show" -d 'Show the trusted keys, their source and their age'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and not __fish_seen_subcommand_from show update pin unpin" -f -a "update" -d 'Fetch the issuer\'s keys now'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and not __fish_seen_subcommand_from show update pin unpin" -f -a "pin" -d 'Trust only the keys in a file, until `unpin`'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and not __fish_seen_subcommand_from show update pin unpin" -f -a "unpin" -d 'Trust the keys that the issuer publishes again'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from show" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from show" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from show" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from show" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from update" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from update" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from update" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from update" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from update" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from update" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from update" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from pin" -l jwks -d 'Trust the keys in this file: a JWK Set or PEM public keys' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from pin" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from pin" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from pin" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from pin" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from pin" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from pin" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from pin" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from unpin" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from unpin" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from unpin" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from unpin" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from unpin" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from unpin" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand keys; and __fish_seen_subcommand_from unpin" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and not __fish_seen_subcommand_from list show set remove rename use" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand profile; and not __fish_seen_subcommand_from list show set remove rename use" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand profile; and not __fish_seen_subcommand_from list show set remove rename use" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and not __fish_seen_subcommand_from list show set remove rename use" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and not __fish_seen_subcommand_from list show set remove rename use" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and not __fish_seen_subcommand_from list show set remove rename use" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and not __fish_seen_subcommand_from list show set remove rename use" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and not __fish_seen_subcommand_from list show set remove rename use" -f -a "list" -d 'List the profiles'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and not __fish_seen_subcommand_from list show set remove rename use" -f -a "show" -d 'Show a profile\'s settings'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and not __fish_seen_subcommand_from list show set remove rename use" -f -a "set" -d 'Change a profile\'s settings'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and not __fish_seen_subcommand_from list show set remove rename use" -f -a "remove" -d 'Remove a profile that has no session'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and not __fish_seen_subcommand_from list show set remove rename use" -f -a "rename" -d 'Rename a profile together with its session'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and not __fish_seen_subcommand_from list show set remove rename use" -f -a "use" -d 'Make a profile the default'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from list" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from list" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from list" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from list" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from show" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from show" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from show" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from show" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from set" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from set" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from set" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from set" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from set" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from set" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from remove" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from remove" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from remove" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from remove" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from remove" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from remove" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from rename" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from rename" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from rename" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from rename" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from rename" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from rename" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from rename" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from use" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from use" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from use" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from use" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from use" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from use" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand profile; and __fish_seen_subcommand_from use" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand doctor" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand doctor" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand doctor" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand doctor" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand doctor" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand doctor" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand demo" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand demo" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand demo" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand demo" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand demo" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand demo" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l port -d 'Listen on this port of 127.0.0.1; 0 picks a free one' -r
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l path -d 'Path of the issuer identifier, such as /tenant' -r
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l users -d 'Read users from this file, one NAME:PASSWORD or NAME:PASSWORD:TOTP_SECRET (base32) per line' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l access-token-ttl -d 'Lifetime of access tokens and ID tokens' -r
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l refresh-token-ttl -d 'Lifetime of a session, however often it is refreshed' -r
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l refresh-token-uses -d 'Limit on refreshes of a session' -r
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l reuse-grace -d 'How long a rotated refresh token is still accepted; reuse after that revokes the session' -r
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l algorithm -d 'Sign with this algorithm' -r -f -a "RS256\t'RSA with SHA-256'
ES256\t'ECDSA on P-256'
EdDSA\t'Ed25519'"
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l device-interval -d 'Polling interval of device logins' -r
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l color -d 'Colour the output' -r -f -a "auto\t'If the output is a terminal with colours'
always\t'Always'
never\t'Never'"
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l config -d 'Use this configuration file instead of the default one' -r -F
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l no-rotation -d 'Never rotate refresh tokens'
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l opaque -d 'Issue opaque access tokens instead of JWTs'
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l status-list -d 'List revoked and suspended access tokens in a status list'
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l control -d 'Enable the control endpoint for test scripts and print its random key'
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l json -d 'Write data and errors as JSON'
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -s q -l quiet -d 'Print only errors and login instructions'
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -s v -l verbose -d 'Print more on stderr; twice to print every request, never a secret'
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -l no-input -d 'Never prompt; fail instead'
complete -c authctl -n "__fish_authctl_using_subcommand dev-issuer" -s h -l help -d 'Print help (see more with \'--help\')'
