// An API behind `authctl proxy`: it takes only tokens that it has not been told to refuse. Prints its port.
// Orders on stdin: `refuse TOKEN`. Reports on stdout: a line of JSON for each request.
'use strict';
const http = require('node:http');
const crypto = require('node:crypto');
const readline = require('node:readline');

const refused = new Set();
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const [, token] = line.split(' ');
  refused.add(token);
  console.log(JSON.stringify({ refusing: refused.size }));
});

function tokenOf(request) {
  return (request.headers.authorization ?? '').replace('Bearer ', '');
}

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://api');
  if (refused.has(tokenOf(request)) || !tokenOf(request)) {
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
  } else if (url.pathname === '/v1/range') {
    response.writeHead(206, { 'content-range': 'bytes 0-3/10' }).end((request.headers.range ?? '').slice(0, 10));
  } else {
    const hash = crypto.createHash('sha256');
    let length = 0;
    request.on('data', (part) => { hash.update(part); length += part.length; });
    request.on('end', () => {
      const { authorization, ...headers } = request.headers;
      response.writeHead(200, { 'content-type': 'application/json', 'set-cookie': 'session=1' });
      response.end(JSON.stringify({ method: request.method, path: request.url, headers, length, digest: hash.digest('hex') }));
    });
  }
});

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
