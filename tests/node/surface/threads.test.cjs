'use strict';
// Threads inside workers, and processes started by workers: neither is a member of the cluster.

const test = require('node:test');
const assert = require('node:assert/strict');
const { play } = require('../support/index.cjs');

test('a worker_thread of a worker runs, sees its own cluster module, and listens for itself', async () => {
  const run = await play({
    files: {
      'thread.cjs': `
        const { parentPort, isMainThread, workerData } = require('worker_threads');
        const cluster = require('cluster');
        const server = require('net').createServer((socket) => socket.end('the thread')).listen(0, '127.0.0.1', () => {
          parentPort.postMessage({
            isMainThread, port: server.address().port, isPrimary: cluster.isPrimary, isWorker: cluster.isWorker,
            variables: Object.keys(process.env).filter((name) => (
              /^(CL_(?!MECHANISM$)|CLUSTER_RS|NODE_UNIQUE_ID|NODE_CHANNEL|NODE_OPTIONS)/.test(name))), workerData,
          });
        });
        parentPort.once('message', () => server.close());
      `,
    },
    async primary({ cluster, report, happens, ask }) {
      const worker = cluster.fork();
      let told = happens(worker, 'message');
      const [{ port }] = await happens(worker, 'listening');
      const [thread] = await told;
      report('thread', thread);
      report('answers', await ask(port), await ask(thread.port), await ask(port));
      told = happens(worker, 'message');
      worker.send('end the thread');
      report('exit of the thread', (await told)[0]);
      report('still', await ask(port));
      worker.disconnect();
      report('exit', ...await happens(worker, 'exit'));
    },
    worker({ directory }) {
      const { Worker } = require('node:worker_threads');
      require('node:net').createServer((socket) => socket.end('the worker')).listen(0, '127.0.0.1', () => {
        const thread = new Worker(`${directory}/thread.cjs`, { workerData: 7 });
        thread.on('message', (message) => process.send(message));
        thread.on('exit', (code) => process.send(code));
        process.once('message', () => thread.postMessage('end'));
      });
    },
  });
  const { port, variables, ...rest } = run.one('thread');
  assert.ok(port > 0);
  assert.deepEqual(rest, { isMainThread: false, isPrimary: true, isWorker: false, workerData: 7 });
  assert.deepEqual(variables, []);
  assert.deepEqual(run.all('answers'), [['the worker', 'the thread', 'the worker']]);
  assert.equal(run.one('exit of the thread'), 0);
  assert.equal(run.one('still'), 'the worker');
  assert.deepEqual(run.all('exit'), [[0, null]]);
});

test('threads that come and go, also by terminate, while connections are served', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask }) {
      const worker = cluster.fork();
      const threads = happens(worker, 'message');
      const [{ port }] = await happens(worker, 'listening');
      let answered = 0;
      let done = false;
      const counted = threads.then(([count]) => {
        done = true;
        return count;
      });
      while (!done) {
        if (await ask(port) === 'served') answered++;
        else report('wrong');
      }
      report('threads', await counted, answered > 0);
      worker.disconnect();
      report('exit', ...await happens(worker, 'exit'));
    },
    worker({ happens }) {
      const { Worker } = require('node:worker_threads');
      require('node:net').createServer((socket) => socket.end('served')).listen(0, '127.0.0.1', async () => {
        let count = 0;
        for (let i = 0; i < 6; i++) {
          const code = i % 2 ? 'setInterval(() => {}, 1000); require("worker_threads").parentPort.postMessage(1)' :
            'require("cluster"); require("worker_threads").parentPort.postMessage(1)';
          const thread = new Worker(code, { eval: true, env: i % 3 ? process.env : {} });
          const exit = happens(thread, 'exit');
          await happens(thread, 'message');
          if (i % 2) thread.terminate();
          await exit;
          count++;
        }
        process.send(count);
      });
    },
  });
  assert.deepEqual(run.all('threads'), [[6, true]]);
  assert.deepEqual(run.all('wrong'), []);
  assert.deepEqual(run.all('exit'), [[0, null]]);
});

test('a primary may have threads as well, and they are primaries of nothing', async () => {
  const run = await play({
    async primary({ cluster, report, happens, ask }) {
      const { Worker } = require('node:worker_threads');
      const code = `
        const cluster = require("cluster");
        require("worker_threads").parentPort.postMessage([cluster.isPrimary, Object.keys(cluster.workers)]);
      `;
      const worker = cluster.fork();
      const [{ port }] = await happens(worker, 'listening');
      const thread = new Worker(code, { eval: true });
      report('thread', (await happens(thread, 'message'))[0]);
      report('answer', await ask(port));
      worker.disconnect();
      await happens(worker, 'exit');
    },
    worker: () => require('node:net').createServer((socket) => socket.end('served')).listen(0, '127.0.0.1'),
  });
  assert.deepEqual(run.one('thread'), [true, []]);
  assert.equal(run.one('answer'), 'served');
});

test('a process that a worker starts is a primary again, and inherits no descriptor of the cluster', async () => {
  const run = await play({
    files: {
      'grandchild.cjs': `
        const cluster = require('cluster');
        const { descriptors } = require(process.env.SUPPORT + '/processes.cjs');
        const { report } = require(process.env.SUPPORT + '/inside.cjs');
        const own = Object.entries(descriptors()).filter(([fd, target]) => fd > 2 && /^socket:/.test(target));
        report('grandchild', cluster.isPrimary, own.length, process.connected === true);
      `,
    },
    async primary({ cluster, happens }) {
      await happens(cluster.fork(), 'exit');
    },
    worker({ cluster, directory }) {
      require('node:net').createServer().listen(0, '127.0.0.1', () => {
        const { spawnSync } = require('node:child_process');
        spawnSync(process.execPath, [`${directory}/grandchild.cjs`], { stdio: 'inherit' });
        cluster.worker.disconnect();
      });
    },
  });
  assert.deepEqual(run.all('grandchild'), [[true, 0, false]]);
});

test('a worker may fork plain children with channels of their own', async () => {
  const run = await play({
    files: {
      'child.cjs': 'process.on("message", (message) => { process.send({ echo: message }); process.disconnect(); });',
    },
    async primary({ cluster, report, happens, ask }) {
      const worker = cluster.fork();
      const told = happens(worker, 'message');
      const [{ port }] = await happens(worker, 'listening');
      report('told', (await told)[0], await ask(port));
      worker.disconnect();
      await happens(worker, 'exit');
    },
    worker({ directory }) {
      const child = require('node:child_process').fork(`${directory}/child.cjs`);
      child.on('message', (message) => process.send(message));
      child.send('hello');
      require('node:net').createServer((socket) => socket.end('served')).listen(0, '127.0.0.1');
    },
  });
  assert.deepEqual(run.all('told'), [[{ echo: 'hello' }, 'served']]);
});

test('a cluster inside a cluster: a process of a worker\'s forks workers of its own', async () => {
  const run = await play({
    files: {
      'inner.cjs': `
        const cluster = require(${JSON.stringify(process.env.CLUSTER_MODULE || 'cluster-rs')});
        const { report } = require(process.env.SUPPORT + '/inside.cjs');
        const { ask } = require(process.env.SUPPORT + '/clients.cjs');
        if (cluster.isPrimary) {
          const worker = cluster.fork();
          worker.on('listening', async ({ port }) => {
            report('inner', await ask(port));
            worker.disconnect();
          });
        } else {
          require('net').createServer((socket) => socket.end('inner worker')).listen(0, '127.0.0.1');
        }
      `,
    },
    async primary({ cluster, report, happens, ask }) {
      const worker = cluster.fork();
      const told = happens(worker, 'message');
      const [{ port }] = await happens(worker, 'listening');
      report('inner exit', (await told)[0]);
      report('outer', await ask(port));
      worker.disconnect();
      await happens(worker, 'exit');
    },
    worker({ directory }) {
      require('node:net').createServer((socket) => socket.end('outer worker')).listen(0, '127.0.0.1', () => {
        const { spawn } = require('node:child_process');
        const inner = spawn(process.execPath, [`${directory}/inner.cjs`], { stdio: 'inherit' });
        inner.on('exit', (code) => process.send(code));
      });
    },
  });
  assert.equal(run.one('inner'), 'inner worker');
  assert.equal(run.one('inner exit'), 0);
  assert.equal(run.one('outer'), 'outer worker');
});
