'use strict';
// Leaving: from either side, by disconnect, kill, destroy and process.disconnect, and who is told.

const test = require('node:test');
const assert = require('node:assert/strict');
const path = require('node:path');
const { ours, play } = require('../support/index.cjs');

test('worker.disconnect() in the primary: the flag at once, servers closed, the channel closed, exit 0', async () => {
  const run = await play({
    async primary({ cluster, report, happens, connect, receive, until, refusal }) {
      const worker = cluster.fork();
      const [{ port }] = await happens(worker, 'listening');
      const open = await connect(port);
      await happens(open, 'data');
      report('returned', worker.disconnect() === worker, worker.exitedAfterDisconnect, worker.isConnected(),
        cluster.workers[worker.id] === undefined);
      report('refused', await until(() => refusal(port), 'the port to be closed'));
      // What was accepted is served to its end before the worker goes.
      const rest = receive(open);
      worker.on('disconnect', () => {
        report('disconnected', worker.isConnected(), worker.exitedAfterDisconnect, worker.state);
      });
      const exit = happens(worker, 'exit');
      open.end('more');
      report('rest', await rest);
      report('exit', ...await exit, worker.exitedAfterDisconnect);
    },
    worker({ cluster, report }) {
      const server = require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
        socket.write('first ');
        socket.on('data', (data) => socket.end(`answer to ${data}`));
      });
      server.listen(0, '127.0.0.1').on('close', () => {
        report('closed', cluster.worker.exitedAfterDisconnect, cluster.worker.isConnected());
      });
    },
  });
  assert.deepEqual(run.all('returned'), [[true, true, true, true]]);
  assert.equal(run.one('refused'), 'ECONNREFUSED');
  assert.equal(run.one('rest'), 'answer to more');
  assert.deepEqual(run.all('closed'), [[true, true]]);
  assert.deepEqual(run.all('disconnected'), [[false, true, 'disconnected']]);
  assert.deepEqual(run.all('exit'), [[0, null, true]]);
});

test('cluster.worker.disconnect() in the worker: the primary knows before the channel closes', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const worker = cluster.fork();
      await happens(worker, 'listening');
      worker.send('leave');
      await happens(worker, 'disconnect');
      report('at disconnect', worker.exitedAfterDisconnect, worker.isDead());
      report('exit', ...await happens(worker, 'exit'), worker.exitedAfterDisconnect);
    },
    worker({ cluster, report }) {
      const server = require('node:net').createServer().listen(0, '127.0.0.1');
      process.once('message', () => {
        const { worker } = cluster;
        report('returned', worker.disconnect() === worker, worker.exitedAfterDisconnect, worker.state);
        report('twice', worker.disconnect() === worker);
      });
      process.once('disconnect', () => report('afterwards', server.listening, cluster.worker.isConnected()));
    },
  });
  assert.deepEqual(run.all('returned'), [[true, true, 'disconnecting']]);
  assert.deepEqual(run.all('twice'), [[true]]);
  assert.deepEqual(run.all('afterwards'), [[false, false]]);
  assert.deepEqual(run.all('at disconnect'), [[true, false]]);
  assert.deepEqual(run.all('exit'), [[0, null, true]]);
});

test('a worker without servers disconnects as well, and one that has other work goes on', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const worker = cluster.fork();
      await happens(worker, 'online');
      worker.disconnect();
      await happens(worker, 'disconnect');
      report('alive', worker.isDead(), worker.exitedAfterDisconnect);
      worker.process.kill('SIGUSR2');
      report('exit', ...await happens(worker, 'exit'), worker.exitedAfterDisconnect);
    },
    worker() {
      const work = setInterval(() => {}, 1000);
      process.on('SIGUSR2', () => clearInterval(work));
    },
  });
  assert.deepEqual(run.all('alive'), [[false, true]]);
  assert.deepEqual(run.all('exit'), [[0, null, true]]);
});

test('process.disconnect() in a worker ends it at once, without the flag', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const worker = cluster.fork();
      await happens(worker, 'listening');
      worker.send('leave');
      report('exit', ...await happens(worker, 'exit'), worker.exitedAfterDisconnect);
    },
    worker() {
      require('node:net').createServer().listen(0, '127.0.0.1');
      process.once('message', () => process.disconnect());
      setInterval(() => {}, 1000);
    },
  });
  assert.deepEqual(run.all('exit'), [[0, null, false]]);
});

test('worker.process.disconnect() in the primary ends the worker at once, without the flag', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const worker = cluster.fork();
      await happens(worker, 'listening');
      worker.process.disconnect();
      report('exit', ...await happens(worker, 'exit'), worker.exitedAfterDisconnect);
    },
    worker() {
      require('node:net').createServer().listen(0, '127.0.0.1');
      setInterval(() => {}, 1000);
    },
  });
  assert.deepEqual(run.all('exit'), [[0, null, false]]);
});

for (const method of ['kill', 'destroy']) {
  test(`worker.${method}() in the primary is a signal: SIGTERM, or the one that was named`, async () => {
    const run = await play({
      data: method,
      async primary({ cluster, report, happens, data: method }) {
        const first = cluster.fork();
        await happens(first, 'listening');
        report('returned', first[method]() === undefined, first.isConnected());
        report('exit', ...await happens(first, 'exit'), first.exitedAfterDisconnect);
        const second = cluster.fork();
        await happens(second, 'listening');
        second[method]('SIGUSR2');
        report('heard', (await happens(second, 'message'))[0]);
        second[method]('SIGKILL');
        report('exit', ...await happens(second, 'exit'), second.exitedAfterDisconnect);
      },
      worker() {
        process.on('SIGUSR2', () => process.send('SIGUSR2'));
        require('node:net').createServer().listen(0, '127.0.0.1');
      },
    });
    assert.deepEqual(run.all('returned'), [[true, true]]);
    assert.equal(run.one('heard'), 'SIGUSR2');
    assert.deepEqual(run.all('exit'), [[null, 'SIGTERM', false], [null, 'SIGKILL', false]]);
  });

  test(`cluster.worker.${method}() in the worker ends it with 0 and the flag, its servers open or not`, async () => {
    const run = await play({
      data: method,
      async primary({ cluster, report, happens }) {
        const worker = cluster.fork();
        await happens(worker, 'listening');
        worker.send('leave');
        report('exit', ...await happens(worker, 'exit'), worker.exitedAfterDisconnect);
      },
      worker({ cluster, data: method }) {
        require('node:net').createServer().listen(0, '127.0.0.1');
        setInterval(() => {}, 1000);
        process.once('message', () => {
          cluster.worker[method]();
          cluster.worker[method]();
        });
      },
    });
    assert.deepEqual(run.all('exit'), [[0, null, true]]);
  });
}

test('exitedAfterDisconnect is undefined before, and a boolean after', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const worker = cluster.fork();
      report('before', worker.exitedAfterDisconnect === undefined);
      await happens(worker, 'online');
      worker.process.kill('SIGKILL');
      await happens(worker, 'exit');
      report('after', worker.exitedAfterDisconnect);
    },
    worker({ cluster, report }) {
      report('inside', cluster.worker.exitedAfterDisconnect === undefined);
      setInterval(() => {}, 1000);
    },
  });
  assert.deepEqual(run.all('before'), [[true]]);
  assert.deepEqual(run.all('after'), [[false]]);
});

test('cluster.disconnect(): every worker closes, and the callback comes', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const workers = [cluster.fork(), cluster.fork(), cluster.fork()];
      await Promise.all(workers.map((worker) => happens(worker, 'listening')));
      const exits = Promise.all(workers.map((worker) => happens(worker, 'exit')));
      report('returned', cluster.disconnect((...values) => report('callback', values.length)) === undefined);
      report('flags', workers.map((worker) => worker.exitedAfterDisconnect));
      report('exits', await exits);
      await new Promise((resolve) => cluster.disconnect(resolve));
      report('nobody', Object.keys(cluster.workers));
      cluster.disconnect();
    },
    worker: () => require('node:net').createServer().listen(0, '127.0.0.1'),
  });
  assert.deepEqual(run.all('returned'), [[true]]);
  assert.deepEqual(run.one('flags'), [true, true, true]);
  assert.deepEqual(run.one('exits'), [[0, null], [0, null], [0, null]]);
  assert.deepEqual(run.all('callback'), [[0]]);
  assert.deepEqual(run.one('nobody'), []);
});

test('cluster.disconnect(callback) calls back when the last worker has disconnected, not the first', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens, connect }) {
      const workers = [cluster.fork(), cluster.fork(), cluster.fork()];
      const [[{ port }]] = await Promise.all(workers.map((worker) => happens(worker, 'listening')));
      // One worker has a connection that is not at its end.
      const open = await connect(port);
      await happens(open, 'data');
      cluster.on('disconnect', (worker) => report('disconnect', worker.id));
      let called = 0;
      const done = new Promise((resolve) => cluster.disconnect(() => {
        called++;
        report('callback');
        resolve();
      }));
      let second = 0;
      cluster.disconnect(() => second++);
      let left = 0;
      await new Promise((resolve) => cluster.on('disconnect', () => { if (++left === 2) resolve(); }));
      await new Promise((resolve) => setImmediate(resolve));
      report('with one left', called);
      open.end();
      await done;
      await new Promise((resolve) => setImmediate(resolve));
      report('counts', called, second);
    },
    worker() {
      require('node:net').createServer((socket) => socket.resume().write('hello')).listen(0, '127.0.0.1');
    },
  });
  assert.equal(run.one('with one left'), 0);
  assert.deepEqual(run.reports.map(({ name }) => name).filter((name) => /^(disconnect|callback)$/.test(name)),
    ['disconnect', 'disconnect', 'disconnect', 'callback']);
  assert.deepEqual(run.all('counts'), [[1, 1]]);
});

test('cluster.disconnect(callback) counts also those that left by themselves a moment before', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens, deadline }) {
      const [first, second] = [cluster.fork(), cluster.fork()];
      await Promise.all([first, second].map((worker) => happens(worker, 'listening')));
      const exits = Promise.all([first, second].map((worker) => happens(worker, 'exit')));
      first.disconnect();
      second.process.kill('SIGKILL');
      await deadline(new Promise((resolve) => cluster.disconnect(resolve)), 'the callback');
      report('connected', first.isConnected(), second.isConnected());
      await exits;
    },
    worker: () => require('node:net').createServer().listen(0, '127.0.0.1'),
  });
  assert.deepEqual(run.all('connected'), [[false, false]]);
});

// On Node's module the acknowledgement meets a closed channel now and then, and its EPIPE ends the primary. That the
// worker may disconnect its channel twice then, and end with 1 for it, is Node's too.
test('a worker that is disconnected by both sides at once leaves once', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      cluster.on('disconnect', () => report('disconnect'));
      const worker = cluster.fork();
      await happens(worker, 'listening');
      worker.send('leave');
      worker.disconnect();
      report('exit', ...await happens(worker, 'exit'), worker.exitedAfterDisconnect);
      const next = cluster.fork();
      await happens(next, 'online');
      next.process.kill('SIGKILL');
      await happens(next, 'exit');
    },
    worker({ cluster }) {
      require('node:net').createServer().listen(0, '127.0.0.1');
      process.once('message', () => cluster.worker.disconnect());
    },
  });
  const [[code, signal, flag]] = run.all('exit');
  assert.ok(code === 0 || code === 1, String(code));
  assert.deepEqual([signal, flag], [null, true]);
  assert.equal(run.all('disconnect').length, 2);
});

test('the end of the primary ends its workers, whatever they do', async () => {
  const run = await play({
    exit: 'SIGKILL',
    async primary({ cluster, report, happens }) {
      const workers = [cluster.fork(), cluster.fork()];
      await Promise.all(workers.map((worker) => happens(worker, 'listening')));
      report('ready');
    },
    worker() {
      require('node:net').createServer().listen(0, '127.0.0.1');
      setInterval(() => {}, 1000);
    },
  }, async (running) => {
    await running.next('ready');
    running.kill('SIGKILL');
  });
  assert.equal(run.ended.signal, 'SIGKILL');
});

test('a primary whose workers have gone ends by itself', async () => {
  const run = await play({
    primary({ cluster, report }) {
      cluster.on('exit', (worker, code) => report('exit', code));
      for (let i = 0; i < 2; i++) cluster.fork();
      cluster.on('listening', (worker) => worker.disconnect());
    },
    worker: () => require('node:net').createServer().listen(0, '127.0.0.1'),
  });
  assert.deepEqual(run.all('exit'), [[0], [0]]);
});

const fixture = (name) => path.join(__dirname, '..', 'data', 'fixtures', name);

for (const secure of [false, true]) {
  test(`HTTP/2${secure ? ' over TLS' : ''}: clients of a worker that leaves are told, and open streams are finished`, ours, async () => {
    const run = await play({
      env: secure ? { KEY: fixture('localhost-key.pem'), CERT: fixture('localhost-cert.pem') } : {},
      async primary({ cluster, report, happens }) {
        const http2 = require('node:http2');
        const worker = cluster.fork();
        const [{ port }] = await happens(worker, 'listening');
        const scheme = process.env.KEY ? 'https' : 'http';
        const session = http2.connect(`${scheme}://127.0.0.1:${port}`, { rejectUnauthorized: false });
        const get = (path) => new Promise((resolve, reject) => {
          let body = '';
          session.request({ ':path': path }).setEncoding('utf8').on('data', (data) => { body += data; })
            .on('end', () => resolve(body)).on('error', reject).end();
        });
        report('first', await get('/'));
        const slow = get('/slow');
        await happens(worker, 'message');
        const told = happens(session, 'goaway');
        const closed = happens(session, 'close');
        const gone = happens(worker, 'exit');
        worker.disconnect();
        await told;
        report('slow', await slow);
        await closed;
        report('exit', ...await gone);
      },
      worker() {
        const { readFileSync } = require('node:fs');
        const http2 = require('node:http2');
        const serve = (request, response) => {
          if (request.url === '/') return response.end('at once');
          setTimeout(() => response.end('in the end'), 600);
          process.send('slow');
        };
        const { KEY, CERT } = process.env;
        const server = KEY ? http2.createSecureServer({ key: readFileSync(KEY), cert: readFileSync(CERT) }, serve) : http2.createServer(serve);
        server.listen(0, '127.0.0.1');
      },
    });
    assert.equal(run.one('first'), 'at once');
    assert.equal(run.one('slow'), 'in the end');
    assert.deepEqual(run.all('exit'), [[0, null]]);
  });
}
