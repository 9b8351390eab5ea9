'use strict';

// http, https and http2 servers in workers: whole bodies, connections that stay, and tickets that every worker knows.

const test = require('node:test');
const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const http2 = require('node:http2');
const https = require('node:https');
const os = require('node:os');
const path = require('node:path');
const tls = require('node:tls');
const { deadline, exactTurns, until } = require('../support/index.cjs');
const { request, tally } = require('./fixtures/clients.cjs');
const { startRig } = require('./fixtures/rig.cjs');

const fixture = (name) => path.join(__dirname, 'fixtures', name);
const files = { key: fixture('localhost-key.pem'), cert: fixture('localhost-cert.pem') };
const ca = fs.readFileSync(files.cert);
const digest = (data) => crypto.createHash('sha256').update(data).digest('hex');

// Answers the bytes that came, with their hash and the worker in the head.
function serveBodies(w, options) {
  const { createServer } = require('node:http');
  createServer(options, (req, res) => {
    const chunks = [];
    req.on('data', (chunk) => chunks.push(chunk)).on('end', () => {
      const body = Buffer.concat(chunks);
      const hash = require('node:crypto').createHash('sha256').update(body).digest('hex');
      res.writeHead(200, { 'x-worker': w.id, 'x-hash': hash, 'x-remote': req.socket.remotePort });
      res.end(body);
    });
  }).listen(0, '127.0.0.1');
}

test('http: bodies of every size there and back, on connections of their own', async (t) => {
  const rig = await startRig(t, { workers: 3, serve: serveBodies });
  const bodies = [0, 1, 1000, 65_536, 1 << 20, 5_000_001].map((size) => crypto.randomBytes(size));
  await Promise.all(bodies.flatMap((body) => [1, 2, 3].map(async () => {
    const answer = await request({ port: rig.port, method: 'POST', agent: false }, body);
    assert.equal(answer.headers['x-hash'], digest(body));
    assert.equal(answer.body.equals(body), true);
  })));
});

test('http: a connection that stays open stays with its worker, and answers come in order', async (t) => {
  const rig = await startRig(t, { workers: 3, serve: serveBodies, env: exactTurns() });
  const agents = [0, 1, 2].map(() => new http.Agent({ keepAlive: true, maxSockets: 1 }));
  const workers = [];
  for (const agent of agents) {
    const answers = await Promise.all(Array.from({ length: 10 }, (_, i) => {
      return request({ port: rig.port, method: 'PUT', agent }, `body ${i}`);
    }));
    assert.deepEqual(answers.map(({ body }) => String(body)), answers.map((_, i) => `body ${i}`));
    assert.equal(new Set(answers.map(({ headers }) => headers['x-remote'])).size, 1, 'one connection');
    assert.equal(new Set(answers.map(({ headers }) => headers['x-worker'])).size, 1, 'one worker');
    workers.push(answers[0].headers['x-worker']);
  }
  assert.deepEqual(workers.sort(), ['1', '2', '3']);
  for (const agent of agents) agent.destroy();
});

test('http: Expect, chunked bodies and an upgrade', async (t) => {
  const rig = await startRig(t, {
    serve() {
      const server = require('node:http').createServer((req, res) => req.pipe(res));
      server.on('checkContinue', (req, res) => {
        res.writeContinue();
        req.pipe(res);
      });
      server.on('upgrade', (req, socket, head) => {
        socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n${head}`);
        socket.pipe(socket);
      });
      server.listen(0, '127.0.0.1');
    },
  });
  const body = 'y'.repeat(200_000);
  const expecting = await request({ port: rig.port, method: 'POST', headers: { Expect: '100-continue' } }, body);
  assert.equal(String(expecting.body), body);
  const chunked = await request({ port: rig.port, method: 'POST', headers: { 'Transfer-Encoding': 'chunked' } }, body);
  assert.equal(String(chunked.body), body);
  const answer = await deadline(new Promise((resolve, reject) => {
    const req = http.request({
      port: rig.port, host: '127.0.0.1', headers: { Connection: 'Upgrade', Upgrade: 'echo' },
    });
    req.on('error', reject).on('upgrade', (response, socket) => {
      socket.end('spoken after the upgrade');
      let text = '';
      socket.on('data', (data) => { text += data; }).on('close', () => resolve(text));
    }).end();
  }), 'the upgraded connection');
  assert.equal(answer, 'spoken after the upgrade');
});

test('http over a unix socket', async (t) => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'cluster-rs-data-'));
  t.after(() => fs.rmSync(directory, { recursive: true, force: true }));
  const socketPath = path.join(directory, 'http');
  const rig = await startRig(t, {
    options: { socketPath },
    serve(w, options) {
      require('node:http').createServer((req, res) => res.end(`${w.id}`)).listen(options.socketPath);
    },
  });
  const counts = await tally(40, 1, async () => String((await request({ socketPath, agent: false })).body));
  assert.deepEqual([...counts.keys()].sort(), ['1', '2']);
  await rig.finish();
});

function serveTls(w, options) {
  const { readFileSync } = require('node:fs');
  const settings = { key: readFileSync(options.key), cert: readFileSync(options.cert), maxVersion: options.version };
  require('node:https').createServer(settings, (req, res) => {
    const chunks = [];
    req.on('data', (chunk) => chunks.push(chunk)).on('end', () => {
      res.writeHead(200, { 'x-worker': w.id, 'x-reused': String(req.socket.isSessionReused()) });
      res.end(Buffer.concat(chunks));
    });
  }).listen(0, '127.0.0.1');
}

test('https: large bodies both ways', async (t) => {
  const rig = await startRig(t, { workers: 3, options: files, serve: serveTls });
  await Promise.all(Array.from({ length: 9 }, async (_, i) => {
    const body = crypto.randomBytes(700_000 + i);
    const options = { port: rig.port, method: 'POST', agent: false, ca };
    const answer = await request(options, body, { module: https });
    assert.equal(answer.body.equals(body), true);
  }));
});

// One TLS connection; gives the worker that served it, whether the session was resumed, and the ticket for the next.
function visit(port, session, version) {
  return deadline(new Promise((resolve, reject) => {
    let ticket;
    let text = '';
    let reused;
    const socket = tls.connect({ port, host: '127.0.0.1', ca, session, maxVersion: version });
    socket.on('error', reject);
    socket.on('secureConnect', () => { reused = socket.isSessionReused(); });
    socket.on('session', (data) => { ticket = data; });
    socket.on('data', (data) => { text += data; });
    socket.on('close', () => resolve({
      worker: Number(/x-worker: (\d+)/.exec(text)?.[1]),
      server: /x-reused: (\w+)/.exec(text)?.[1],
      reused,
      ticket,
    }));
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  }), 'a visit');
}

for (const version of ['TLSv1.2', 'TLSv1.3']) {
  test(`https: a ticket of one worker is taken by every other (${version})`, async (t) => {
    const rig = await startRig(t, { workers: 3, options: { ...files, version }, serve: serveTls });
    const first = await visit(rig.port, undefined, version);
    assert.equal(first.reused, false);
    const workers = new Set();
    await until(async () => {
      const next = await visit(rig.port, first.ticket, version);
      assert.deepEqual([next.reused, next.server], [true, 'true'], `worker ${next.worker} resumes`);
      workers.add(next.worker);
      return workers.size === 3;
    }, 'a resumed session on every worker');
    // A worker that comes later learns the keys as well.
    const [late] = await rig.fork(1);
    await until(async () => {
      const next = await visit(rig.port, first.ticket, version);
      assert.equal(next.reused, true);
      return next.worker === late;
    }, 'a resumed session on the worker that came later');
  });
}

function talk(session, headers, body) {
  return deadline(new Promise((resolve, reject) => {
    const chunks = [];
    let head;
    const stream = session.request({ ':method': 'POST', ...headers });
    stream.on('response', (received) => { head = received; });
    stream.on('data', (chunk) => chunks.push(chunk)).on('error', reject);
    stream.on('end', () => resolve({ head, body: Buffer.concat(chunks) }));
    stream.end(body);
  }), 'an http2 answer');
}

for (const secure of [false, true]) {
  test(`http2 ${secure ? 'over TLS' : 'in clear'}: many streams on a few connections`, async (t) => {
    const rig = await startRig(t, {
      options: { ...files, secure },
      serve(w, options) {
        const h2 = require('node:http2');
        const { readFileSync } = require('node:fs');
        const server = options.secure ?
          h2.createSecureServer({ key: readFileSync(options.key), cert: readFileSync(options.cert) }) :
          h2.createServer();
        server.on('stream', (stream, headers) => {
          stream.respond({ ':status': 200, 'x-worker': w.id, 'x-n': headers['x-n'] });
          stream.pipe(stream);
        });
        server.listen(0, '127.0.0.1');
      },
    });
    const served = new Set();
    for (let c = 0; c < 4; c++) {
      const session = http2.connect(`${secure ? 'https' : 'http'}://127.0.0.1:${rig.port}`, { ca });
      const bodies = Array.from({ length: 12 }, (_, i) => crypto.randomBytes(60_000 * (i % 4) + i));
      const answers = await Promise.all(bodies.map((body, i) => talk(session, { 'x-n': `${i}` }, body)));
      for (const [i, { head, body }] of answers.entries()) {
        assert.equal(head['x-n'], `${i}`);
        assert.equal(body.equals(bodies[i]), true);
      }
      const workers = new Set(answers.map(({ head }) => head['x-worker']));
      assert.equal(workers.size, 1, 'all streams of a connection are with one worker');
      served.add(...workers);
      await deadline(new Promise((resolve) => session.close(resolve)), 'the end of the session');
    }
    assert.equal(served.size, 2);
  });
}

test('http: highWaterMark of the server reaches its connections', async (t) => {
  const rig = await startRig(t, {
    serve() {
      require('node:http').createServer({ highWaterMark: 12_345 }, (req, res) => {
        res.end(`${req.socket.readableHighWaterMark}`);
      }).listen(0, '127.0.0.1');
    },
  });
  assert.equal(String((await request({ port: rig.port, agent: false })).body), '12345');
});
