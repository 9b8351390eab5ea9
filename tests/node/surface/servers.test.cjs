'use strict';
// What servers need of the cluster beyond connections: tickets, limits, the handle that stands for the primary's.

const test = require('node:test');
const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { exactTurns, major, mechanism, play } = require('../support/index.cjs');

function certificate() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cluster-rs-test-'));
  const [key, cert] = ['key.pem', 'cert.pem'].map((name) => path.join(folder, name));
  try {
    const { error } = spawnSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost',
      '-days', '2', '-keyout', key, '-out', cert]);
    return error ? null : fs.readFileSync(key, 'utf8') + fs.readFileSync(cert, 'utf8');
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

test('TLS tickets of one worker are good at every other, whoever listened first', async (t) => {
  const pem = certificate();
  if (pem === null) return t.skip('no openssl to make a certificate with');
  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    const run = await play({
      data: version,
      files: { 'both.pem': pem },
      async primary({ cluster, report, happens, data: version }) {
        const tls = require('node:tls');
        const workers = [cluster.fork(), cluster.fork()];
        const [[{ port }]] = await Promise.all(workers.map((worker) => happens(worker, 'listening')));
        let session;
        for (let i = 0; i < 6; i++) {
          const where = { port, host: '127.0.0.1', rejectUnauthorized: false };
          const socket = tls.connect({ ...where, session, maxVersion: version });
          socket.on('session', (ticket) => { session = ticket; });
          let text = '';
          let reused;
          socket.on('secureConnect', () => { reused = socket.isSessionReused(); });
          socket.setEncoding('utf8');
          socket.on('data', (data) => { text += data; });
          await happens(socket, 'close');
          report('visit', text, reused);
        }
        cluster.disconnect();
      },
      worker({ cluster, data: version }) {
        const pem = require('node:fs').readFileSync('both.pem');
        require('node:tls').createServer({ key: pem, cert: pem, maxVersion: version }, (socket) => {
          socket.on('error', () => {});
          socket.end(`${cluster.worker.id}`);
        }).listen(0, '127.0.0.1');
      },
    });
    const visits = run.all('visit');
    assert.deepEqual([...new Set(visits.map(([worker]) => worker))].sort(), ['1', '2'], version);
    assert.deepEqual(visits.map(([, reused]) => reused), [false, true, true, true, true, true], version);
  }
});

test('a worker at its maxConnections leaves its turn to the others', async () => {
  const run = await play({
    env: exactTurns(), // of so few each worker has its part
    async primary({ cluster, report, happens, connect }) {
      const limited = cluster.fork({ LIMIT: 1 });
      const [{ port }] = await happens(limited, 'listening');
      const other = cluster.fork();
      await happens(other, 'listening');
      const clients = [];
      const counts = { 1: 0, 2: 0 };
      for (let i = 0; i < 8; i++) {
        const client = await connect(port);
        clients.push(client);
        counts[String((await happens(client, 'data'))[0])]++;
      }
      report('counts', counts);
      for (const client of clients) client.end();
      cluster.disconnect();
    },
    worker({ cluster }) {
      const server = require('node:net').createServer((socket) => socket.resume().write(`${cluster.worker.id}`));
      if (process.env.LIMIT) server.maxConnections = Number(process.env.LIMIT);
      server.listen(0, '127.0.0.1');
    },
  });
  assert.deepEqual(run.one('counts'), { 1: 1, 2: 7 });
});

const drops = { skip: major < 22 && 'this Node has no dropMaxConnection' };
test('with dropMaxConnection it takes them and drops them itself', drops, async () => {
  const run = await play({
    async primary({ cluster, report, happens, connect, receive }) {
      const worker = cluster.fork();
      const [{ port }] = await happens(worker, 'listening');
      const first = await connect(port);
      await happens(first, 'data');
      const told = happens(worker, 'message');
      const second = await connect(port);
      report('second', await receive(second));
      report('drop', (await told)[0].remotePort > 0);
      first.end();
      worker.disconnect();
      await happens(worker, 'exit');
    },
    worker() {
      const server = require('node:net').createServer((socket) => socket.resume().write('hello'));
      server.maxConnections = 1;
      server.dropMaxConnection = true;
      server.on('drop', (what) => process.send(what));
      server.listen(0, '127.0.0.1');
    },
  });
  assert.equal(run.one('second'), '');
  assert.equal(run.one('drop'), true);
});

test('the server\'s handle in a worker has a name and one close, and a descriptor only where the kernel chooses', async () => {
  const run = await play({
    async primary({ cluster, happens }) {
      await happens(cluster.fork(), 'exit');
    },
    async worker({ cluster, report }) {
      const { once } = require('node:events');
      for (const where of [{ port: 0, host: '127.0.0.1' }, { path: 'some.sock' }]) {
        const server = require('node:net').createServer().listen(where);
        await once(server, 'listening');
        const handle = server._handle;
        const out = {};
        report('handle', handle.listen(511), handle.fd >= 0, typeof handle.getsockname,
          handle.getsockname?.(out) ?? null, Object.keys(out).sort());
        handle.unref();
        handle.ref();
        const closed = once(server, 'close');
        server.close();
        await closed;
        handle.close();
        report('afterwards', server._handle, server.listening);
      }
      cluster.worker.disconnect();
    },
  });
  assert.deepEqual(run.all('handle'), [
    [0, mechanism() === 'kernel', 'function', 0, ['address', 'family', 'port']],
    [0, false, 'undefined', null, []],
  ]);
  assert.deepEqual(run.all('afterwards'), [[null, false], [null, false]]);
});

test('a worker that the primary does not wait for lets it end, and ends with it', async () => {
  const run = await play({
    primary({ cluster, report }) {
      const worker = cluster.fork();
      worker.on('online', () => {
        worker.process.unref();
        worker.process.channel.unref();
      });
      process.on('exit', () => report('ended', Object.keys(cluster.workers)));
    },
    worker: () => setInterval(() => {}, 1000),
  });
  assert.deepEqual(run.all('ended'), [[['1']]]);
});

test('SIGTERM for a primary without a handler ends it and its workers at once', async () => {
  const run = await play({
    exit: 'SIGTERM',
    async primary({ cluster, report, happens }) {
      await happens(cluster.fork(), 'listening');
      report('ready');
    },
    worker: () => require('node:http').createServer().listen(0, '127.0.0.1'),
  }, async (running) => {
    await running.next('ready');
    running.kill('SIGTERM');
  });
  assert.equal(run.ended.signal, 'SIGTERM');
});
