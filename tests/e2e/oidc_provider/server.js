// Runs oidc-provider on a free port of 127.0.0.1 for tests/e2e/oidc_provider. argv[2] holds options as JSON:
//   life    how long access tokens last, in seconds
//   iss     the issuer in authorization responses instead of its own; "" for none (RFC 9207)
//   tls     {cert, key}: PEM files to serve https with
//   keys    PEM files: the keys of the client `pkjwt`
//   registration
//           whether clients may register, and manage their registrations (RFC 7591, RFC 7592); then any resource is known
//   dpop    whether the client `native` and those that register have to bind their tokens (RFC 9449), with nonces in all proofs
//   par     whether authorization requests have to be pushed (RFC 9126)
//   client_metadata
//           a client ID metadata document: it is what the provider finds at the URL that is its client_id
//   exchange
//           whether the client `native` may exchange tokens (RFC 8693)
// Prints a line of JSON: first {issuer}, then one for each command on stdin:
//   counts      the counters so far
//   rotate      signs with new keys, and still publishes the old ones
//   forget      stops publishing the old keys
//   lose        closes the connection of the next token request after handling it
// It exits when stdin is closed. Run it in the directory of node_modules.
import * as crypto from "node:crypto";
import { readFileSync } from "node:fs";
import * as http from "node:http";
import * as https from "node:https";
import { join } from "node:path";
import * as readline from "node:readline";
import { pathToFileURL } from "node:url";

const options = JSON.parse(process.argv[2] ?? "{}");
const print = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);
// stdout is for the protocol only. The library prints warnings about production use.
console.info = console.warn;

const library = (path) => import(pathToFileURL(join(process.cwd(), "node_modules/oidc-provider/lib", path)));
const { default: Provider, errors } = await library("index.js");
const { createMemoryAdapter } = await library("adapters/memory_adapter.js");

// State that survives a key rotation.
const adapter = createMemoryAdapter();
const cookies = [crypto.randomBytes(32).toString("base64url")];

// An API whose access tokens are JWTs, for each algorithm.
const resources = Object.fromEntries(
  ["RS256", "ES256", "EdDSA"].map((alg) => [`https://${alg.toLowerCase()}.example`, alg]),
);

const redirects = {
  application_type: "native",
  ...(options.dpop && { dpop_bound_access_tokens: true }),
  redirect_uris: ["http://127.0.0.1/callback"],
  grant_types: ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
  response_types: ["code"],
};
const service = { redirect_uris: [], response_types: [], grant_types: ["client_credentials"] };
const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";
if (options.exchange) redirects.grant_types.push(EXCHANGE);
const secret = "a secret: with / and +, & %41";
const clients = [
  { client_id: "native", token_endpoint_auth_method: "none", ...redirects },
  ...["ES256", "EdDSA"].map((alg) => ({
    client_id: `native-${alg}`,
    token_endpoint_auth_method: "none",
    id_token_signed_response_alg: alg,
    ...redirects,
  })),
  { client_id: "basic", client_secret: secret, token_endpoint_auth_method: "client_secret_basic", ...service },
  { client_id: "post", client_secret: secret, token_endpoint_auth_method: "client_secret_post", ...service },
];
if (options.keys) {
  const jwk = (file) => crypto.createPublicKey(readFileSync(file)).export({ format: "jwk" });
  clients.push({
    client_id: "pkjwt",
    token_endpoint_auth_method: "private_key_jwt",
    jwks: { keys: options.keys.map(jwk) },
    ...redirects,
    grant_types: ["authorization_code", "refresh_token", "client_credentials"],
  });
}

function newKeys() {
  const jwk = (type, curve) => crypto.generateKeyPairSync(type, curve).privateKey.export({ format: "jwk" });
  const keys = [
    { ...jwk("rsa", { modulusLength: 2048 }), alg: "RS256" },
    { ...jwk("ec", { namedCurve: "P-256" }), alg: "ES256" },
    { ...jwk("ed25519"), alg: "EdDSA" },
  ];
  return keys.map((key) => ({ ...key, use: "sig" }));
}

const counts = { pushed: 0, by_header: 0, by_form: 0, refreshes: 0, exchanges: 0, registered: 0, deleted: 0, refused: [], revoked_grants: 0, keys: 0, codes: 0, faults: [] };

function resourceServer(resource) {
  const alg = resources[resource] ?? (options.registration && "ES256");
  if (!alg) throw new errors.InvalidTarget();
  const accessTokenTTL = options.life ?? 3600;
  return { scope: "read write", accessTokenTTL, accessTokenFormat: "jwt", jwt: { sign: { alg } } };
}

// Token exchange, which the library leaves to its users: an access token of the same client for one for a resource.
function registerExchange(made) {
  const parameters = ["resource", "scope", "requested_token_type", "subject_token", "subject_token_type"];
  const exchange = async (ctx) => {
    const { client, params } = ctx.oidc;
    const subject = params.subject_token_type === ACCESS_TOKEN && (await made.AccessToken.find(params.subject_token));
    if (!subject || subject.clientId !== client.clientId) throw new errors.InvalidRequest("unknown subject_token");
    const { accountId, grantId, gty } = subject;
    const token = new made.AccessToken({ accountId, client, grantId, gty, scope: "read" });
    token.resourceServer = new made.ResourceServer(params.resource, resourceServer(params.resource));
    const access_token = await token.save();
    counts.exchanges += 1;
    ctx.body = { access_token, issued_token_type: ACCESS_TOKEN, token_type: "Bearer", expires_in: token.expiration };
  };
  made.registerGrantType(EXCHANGE, exchange, parameters, ["resource"]);
}

function provider(keys) {
  const made = new Provider(issuer, {
    adapter,
    clients,
    jwks: { keys },
    cookies: { keys: cookies },
    claims: { openid: ["sub"], profile: ["preferred_username"] },
    scopes: ["openid", "offline_access"],
    enabledJWA: { idTokenSigningAlgValues: ["RS256", "ES256", "EdDSA"] },
    rotateRefreshToken: true,
    ttl: {
      AccessToken: options.life ?? 3600,
      ClientCredentials: options.life ?? 3600,
      AuthorizationCode: 60,
      DeviceCode: 600,
      Grant: 86_400,
      IdToken: 3600,
      Interaction: 600,
      RefreshToken: 86_400,
      Session: 86_400,
    },
    features: {
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      registration: { enabled: Boolean(options.registration) },
      registrationManagement: { enabled: Boolean(options.registration) },
      dPoP: { enabled: Boolean(options.dpop), nonceSecret: crypto.randomBytes(32), requireNonce: () => true },
      pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: Boolean(options.par) },
      clientIdMetadataDocument: { enabled: Boolean(options.client_metadata), ack: "draft-02" },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (ctx, resource) => resourceServer(resource),
      },
    },
    // The machine that runs the tests reaches no host outside.
    fetch: async (url) => {
      const found = String(url) === options.client_metadata?.client_id;
      return new Response(JSON.stringify(found ? options.client_metadata : {}), { status: found ? 200 : 404 });
    },
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, preferred_username: id }) }),
  });
  if (options.exchange) registerExchange(made);
  made.on("grant.success", (ctx) => {
    if (ctx.oidc.params.grant_type === "refresh_token") counts.refreshes += 1;
    if (ctx.oidc.params.grant_type === "authorization_code") counts.codes += 1;
  });
  made.on("pushed_authorization_request.success", () => (counts.pushed += 1));
  made.on("registration_create.success", () => (counts.registered += 1));
  made.on("registration_delete.success", () => (counts.deleted += 1));
  made.on("grant.error", (ctx, error) => {
    if (error.error !== "authorization_pending") counts.refused.push(error.error_detail ?? error.error);
  });
  made.on("grant.revoked", () => (counts.revoked_grants += 1));
  made.on("server_error", (ctx, error) => counts.faults.push(String(error.stack)));
  made.use(async (ctx, next) => {
    await next();
    if (ctx.path === "/jwks") counts.keys += 1;
    if (ctx.path === "/token") {
      if (ctx.get("authorization")) counts.by_header += 1;
      else if (ctx.oidc.body?.client_secret) counts.by_form += 1;
      if (lose) ctx.req.socket.destroy();
      lose = false;
    }
    const location = ctx.response.get("location") ?? "";
    if (options.iss !== undefined && location.includes("/callback?")) {
      const changed = new URL(location);
      changed.searchParams.delete("iss");
      if (options.iss) changed.searchParams.set("iss", options.iss);
      ctx.set("location", changed.href);
    }
  });
  return made.callback();
}

const files = options.tls && { cert: readFileSync(options.tls.cert), key: readFileSync(options.tls.key) };
let answer;
let lose = false;
const asked = (request, response) => answer(request, response);
const server = files ? https.createServer(files, asked) : http.createServer(asked);
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const issuer = `${files ? "https" : "http"}://127.0.0.1:${server.address().port}`;
let keys = newKeys();
answer = provider(keys);
print({ issuer });

for await (const line of readline.createInterface({ input: process.stdin })) {
  if (line === "rotate") keys = [...newKeys(), ...keys];
  if (line === "forget") keys = keys.slice(0, 3);
  if (line === "rotate" || line === "forget") answer = provider(keys);
  if (line === "lose") lose = true;
  print(counts);
}
process.exit(0);
