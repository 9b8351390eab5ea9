'use strict';
// How real servers end themselves, under the command line as under plain node.

const test = require('node:test');
const assert = require('node:assert/strict');
const path = require('node:path');
const { happens, ours, request, until } = require('../support/index.cjs');
const { cli } = require('../cli/fixtures/run.cjs');

const env = { NODE_PATH: path.join(__dirname, '..', 'node_modules') };

// Each says `done` when its own end is complete.
const PROGRAMS = {
  'express with a pool': `
    const app = require('express')();
    app.get('/', (request, response) => response.send('ok'));
    app.get('/slow', (request, response) => { console.log('slow'); setTimeout(() => response.send('slow'), 600); });
    const server = app.listen(0, '127.0.0.1');
    const pool = setInterval(() => {}, 1000);
    process.on('SIGTERM', () => server.close((error) => {
      if (error) throw error;
      clearInterval(pool);
      console.log('done');
    }));`,
  'fastify with onClose': `
    const app = require('fastify')();
    app.get('/', async () => 'ok');
    app.get('/slow', async () => { console.log('slow'); await new Promise((go) => setTimeout(go, 600)); return 'slow'; });
    app.addHook('onClose', async () => console.log('done'));
    app.listen({ port: 0, host: '127.0.0.1' });
    process.on('SIGTERM', async () => { await app.close(); process.exit(0); });`,
  'nest with shutdown hooks': `
    require('reflect-metadata');
    const { NestFactory } = require('@nestjs/core');
    const { Controller, Get, Module } = require('@nestjs/common');
    class Root { root() { return 'ok'; } async slow() { console.log('slow'); await new Promise((go) => setTimeout(go, 600)); return 'slow'; } }
    for (const [method, at] of [['root', '/'], ['slow', '/slow']]) {
      Get(at)(Root.prototype, method, Object.getOwnPropertyDescriptor(Root.prototype, method));
    }
    Controller()(Root);
    class App { onApplicationShutdown(signal) { console.log('done'); } }
    Module({ controllers: [Root] })(App);
    (async () => {
      const app = await NestFactory.create(App, { logger: ['error'] });
      app.enableShutdownHooks();
      await app.listen(0, '127.0.0.1');
    })();`,
  'terminus': `
    const server = require('node:http').createServer((request, response) => {
      if (request.url !== '/slow') return response.end('ok');
      console.log('slow'); setTimeout(() => response.end('slow'), 600);
    });
    require('@godaddy/terminus').createTerminus(server, {
      signal: 'SIGTERM', timeout: 5000, onSignal: async () => {}, onShutdown: async () => console.log('done') });
    server.listen(0, '127.0.0.1');`,
  'http-terminator': `
    const server = require('node:http').createServer((request, response) => {
      if (request.url !== '/slow') return response.end('ok');
      console.log('slow'); setTimeout(() => response.end('slow'), 600);
    }).listen(0, '127.0.0.1');
    const terminator = require('http-terminator').createHttpTerminator({ server });
    process.on('SIGTERM', async () => { await terminator.terminate(); console.log('done'); process.exit(0); });`,
  'stoppable': `
    const server = require('stoppable')(require('node:http').createServer((request, response) => {
      if (request.url !== '/slow') return response.end('ok');
      console.log('slow'); setTimeout(() => response.end('slow'), 600);
    }), 5000).listen(0, '127.0.0.1');
    process.on('SIGTERM', () => server.stop((error) => { if (error) throw error; console.log('done'); process.exit(0); }));`,
};

const count = (run, text) => run.stdout.split('\n').filter((line) => line.slice(4) === text).length;

for (const [name, text] of Object.entries(PROGRAMS)) {
  test(`${name}: what was begun is finished, and its own end runs once`, ours, async () => {
    for (const isForAll of [false, true]) {
      let slow;
      const run = await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': text }, env }, async (started) => {
        const port = await started.port();
        await started.wait(/2 workers: pids/);
        assert.equal((await request(port)).body, 'ok');
        if (!isForAll) {
          started.kill('SIGHUP');
          await started.wait(/reload: done/);
          await until(() => count(started, 'done') === 2, 'the old ones have finished');
        }
        slow = request(port, { path: '/slow', agent: false });
        await started.wait(/\] slow/);
        started.kill('SIGTERM', isForAll ? -started.pid : started.pid);
      });
      assert.equal((await slow).body, 'slow');
      assert.equal(count(run, 'done'), isForAll ? 2 : 4);
      assert.equal(run.stderr, '');
      assert.equal(run.code, 0);
    }
  });
}

const WS = `
  const { WebSocketServer } = require('ws');
  const server = require('node:http').createServer().listen(0, '127.0.0.1');
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', () => console.log('open'));`;

const fixture = (name) => JSON.stringify(path.join(__dirname, '..', 'data', 'fixtures', name));
const WSS = WS.replace("require('node:http').createServer(", `require('node:https').createServer({
  key: require('node:fs').readFileSync(${fixture('localhost-key.pem')}),
  cert: require('node:fs').readFileSync(${fixture('localhost-cert.pem')}) }`);

for (const [what, text, expected] of [
  ['that the program closes', `${WS} process.on('SIGTERM', () => {
    for (const socket of sockets.clients) socket.close(4001);
    server.close(() => process.exit(0)); });`, 4001],
  ['of a program without a handler', WS, 1001],
  ['over TLS of a program without a handler', WSS, 1001],
]) {
  test(`ws: connections ${what} are told at once`, ours, async () => {
    const { WebSocket } = require('ws');
    for (const isForAll of [false, true]) {
      const run = await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': text }, env }, async (started) => {
        const port = await started.port();
        const clients = [1, 2, 3].map(() => new WebSocket(`ws${text === WSS ? 's' : ''}://127.0.0.1:${port}/`, { rejectUnauthorized: false }));
        await started.wait(/\] open/, { count: 3 });
        const asked = performance.now();
        const codes = clients.map(async (client) => (await happens(client, 'close'))[0]);
        started.kill('SIGTERM', isForAll ? -started.pid : started.pid);
        assert.deepEqual(await Promise.all(codes), [expected, expected, expected]);
        assert.ok(performance.now() - asked < 4000, 'at once');
      });
      assert.equal(run.stderr, '');
      assert.equal(run.code, 0);
    }
  });
}

for (const [what, handler] of [
  ['a handler', "process.on('SIGTERM', () => io.close(() => process.exit(0)));"],
  ['no handler', ''],
]) {
  test(`socket.io with ${what}: clients are told at once`, ours, async () => {
    const { io } = require('socket.io-client');
    const text = `
      const server = require('node:http').createServer().listen(0, '127.0.0.1');
      const io = new (require('socket.io').Server)(server, { transports: ['websocket'] });
      io.on('connection', () => console.log('open'));
      ${handler}`;
    const run = await cli({ args: ['-i', '2', 'app.js'], files: { 'app.js': text }, env }, async (started) => {
      const port = await started.port();
      const clients = [1, 2].map(() => io(`http://127.0.0.1:${port}`, { transports: ['websocket'], reconnection: false, forceNew: true }));
      await started.wait(/\] open/, { count: 2 });
      const asked = performance.now();
      const gone = clients.map((client) => happens(client, 'disconnect'));
      started.kill();
      await Promise.all(gone);
      assert.ok(performance.now() - asked < 4000, 'at once');
    });
    assert.equal(run.stderr, '');
    assert.equal(run.code, 0);
  });
}
