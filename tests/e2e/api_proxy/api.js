// An API behind `authctl proxy`. Prints its port. argv[2] holds options as JSON:
//   tls            {cert, key}: PEM files to serve https with
//   http2          {}: to speak HTTP/2, and nothing else, with these settings of it
//   introspection  {url, client_id, client_secret}: where an issuer says whether a token is active (RFC 7662); all are otherwise
// Orders on stdin: `event` sends the next event to each stream, `end` ends them.
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const http2 = require('node:http2');
const https = require('node:https');
const crypto = require('node:crypto');
const readline = require('node:readline');

const options = JSON.parse(process.argv[2] ?? '{}');
const streams = new Set();
const refused = new Set();
let events = 0;
readline.createInterface({ input: process.stdin }).on('line', (order) => {
  for (const stream of streams) {
    if (order === 'event') stream.write(`data: ${events}\n\n`);
    else stream.end();
  }
  events += 1;
});

async function isActive(token) {
  if (!token || !options.introspection) return Boolean(token);
  const { url, ...client } = options.introspection;
  const reply = await fetch(url, { method: 'POST', body: new URLSearchParams({ token, ...client }) });
  return (await reply.json()).active;
}

async function answer(request, response) {
  const url = new URL(request.url, 'http://api');
  if (!(await isActive((request.headers.authorization ?? '').replace('Bearer ', '')))) {
    response.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' }).end();
    return;
  }
  if (url.pathname === '/v1/events') {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    let number = 0;
    const send = () => {
      response.write(`data: ${number}\n\n`);
      number += 1;
      if (number === Number(url.searchParams.get('count'))) response.end();
      else setTimeout(send, 100);
    };
    send();
  } else if (url.pathname === '/v1/stream') {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(': open\n\n');
    streams.add(response);
    response.on('close', () => streams.delete(response));
  } else if (url.pathname === '/v1/download') {
    let left = Number(url.searchParams.get('bytes'));
    const block = Buffer.alloc(65536, 'x');
    response.writeHead(200, { 'content-length': left });
    const send = () => {
      while (left > 0) {
        const part = block.subarray(0, Math.min(left, block.length));
        left -= part.length;
        if (!response.write(part)) { response.once('drain', send); return; }
      }
      response.end();
    };
    send();
  } else if (url.pathname === '/v1/trailers') {
    response.writeHead(200, { trailer: 'x-digest' });
    response.write('body');
    response.addTrailers({ 'x-digest': 'abc' });
    response.end();
  } else if (url.pathname === '/v1/short') {
    response.writeHead(200, { 'content-length': 10 }).end('short');
  } else if (url.pathname.startsWith('/v1/refused/') && !refused.has(request.url)) {
    refused.add(request.url);
    const { stream } = request;
    const { NGHTTP2_NO_ERROR, NGHTTP2_REFUSED_STREAM } = http2.constants;
    request.resume().on('end', () => {
      if (url.pathname.endsWith('/stream')) stream.close(NGHTTP2_REFUSED_STREAM);
      else stream.session.goaway(NGHTTP2_NO_ERROR, Math.max(stream.id - 2, 0));
    });
  } else if (url.pathname === '/v1/range') {
    response.writeHead(206, { 'content-range': 'bytes 0-3/10' }).end((request.headers.range ?? '').slice(0, 10));
  } else {
    const hash = crypto.createHash('sha256');
    let length = 0;
    request.on('data', (part) => { hash.update(part); length += part.length; });
    request.on('end', () => {
      const { authorization, ...headers } = request.headers;
      const { method, url: path, httpVersion: version } = request;
      const body = JSON.stringify({ method, path, version, headers, length, digest: hash.digest('hex') });
      response.setHeader('set-cookie', 'session=1');
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }).end(body);
    });
  }
}

const files = options.tls && { cert: fs.readFileSync(options.tls.cert), key: fs.readFileSync(options.tls.key) };
const server = options.http2 ? http2.createSecureServer({ ...files, settings: options.http2 }, answer)
  : files ? https.createServer(files, answer) : http.createServer(answer);

// WebSocket (RFC 6455): echoes what it receives, frame by frame.
server.on('upgrade', (request, socket) => {
  const accept = crypto.createHash('sha1')
    .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  socket.on('data', (frame) => {
    const length = frame[1] & 127;
    const mask = frame.subarray(2, 6);
    const text = frame.subarray(6, 6 + length).map((byte, index) => byte ^ mask[index % 4]);
    socket.write(Buffer.concat([Buffer.from([frame[0], length]), text]));
  });
  socket.on('error', () => {});
});

server.listen(0, '127.0.0.1', () => console.log(server.address().port));
