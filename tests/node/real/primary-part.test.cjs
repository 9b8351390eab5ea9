'use strict';
// Modules that have a part in the primary, or read NODE_APP_INSTANCE for themselves, under the command line.

const test = require('node:test');
const assert = require('node:assert/strict');
const { happens, ours, request, until } = require('../support/index.cjs');
const { cli } = require('../cli/fixtures/run.cjs');

// The programs stand in a folder of their own, from which nothing is found.
const load = (name) => `require(${JSON.stringify(require.resolve(name))})`;

test('log4js: with --primary the primary writes what the workers log', ours, async () => {
  const configure = `const log4js = ${load('log4js')};
    log4js.configure({ appenders: { out: { type: 'stdout', layout: { type: 'messagePassThrough' } } },
      categories: { default: { appenders: ['out'], level: 'info' } } });`;
  const run = await cli({
    args: ['-i', '2', '--primary', 'primary.cjs', 'app.js'], files: {
      'primary.cjs': configure,
      'app.js': `${configure}
        require('node:http').createServer((request, response) => {
          log4js.getLogger().info('served by', process.env.NODE_APP_INSTANCE);
          response.end('ok');
        }).listen(0, '127.0.0.1');`,
    },
  }, async (started) => {
    const port = await started.port();
    await until(async () => {
      await request(port);
      return [0, 1].every((slot) => started.stdout.includes(`\nserved by ${slot}\n`));
    }, 'a line about each worker');
    started.kill();
  });
  assert.equal(run.code, 0);
});

test('prom-client: with --primary the primary answers for all workers', ours, async () => {
  const run = await cli({
    args: ['-i', '2', '--primary', 'primary.cjs', 'app.js'], files: {
      'primary.cjs': `const registry = new (${load('prom-client')}.AggregatorRegistry)();
        const server = require('node:http').createServer(async (request, response) => {
          response.end(await registry.clusterMetrics());
        });
        server.listen(0, '127.0.0.1', () => console.log('metrics at', server.address().port));`,
      'app.js': `const { AggregatorRegistry, Gauge } = ${load('prom-client')};
        new AggregatorRegistry();
        new Gauge({ name: 'workers_up', help: 'Workers.' }).set(1);
        require('node:http').createServer((request, response) => response.end('ok')).listen(0, '127.0.0.1');`,
    },
  }, async (started) => {
    await started.port();
    await started.wait(/2 workers: pids/);
    const [, port] = await started.wait(/metrics at ([0-9]+)/);
    assert.match((await request(Number(port))).body, /^workers_up 2$/m);
    started.kill();
  });
  assert.equal(run.code, 0);
});

test('@socket.io/cluster-adapter: with --primary a broadcast reaches the clients of all workers', ours, async () => {
  const { io } = require('socket.io-client');
  const run = await cli({
    args: ['-i', '2', '--primary', 'primary.cjs', 'app.js'], files: {
      'primary.cjs': `${load('@socket.io/cluster-adapter')}.setupPrimary();`,
      'app.js': `const server = require('node:http').createServer();
        const io = new (${load('socket.io')}.Server)(server, { transports: ['websocket'] });
        io.adapter(${load('@socket.io/cluster-adapter')}.createAdapter());
        io.on('connection', (socket) => {
          socket.emit('hello', process.pid);
          socket.on('tell', () => io.emit('news', 'for all'));
        });
        server.listen(0, '127.0.0.1');`,
    },
  }, async (started) => {
    const port = await started.port();
    await started.wait(/2 workers: pids/);
    const clients = [];
    const pids = new Set();
    try {
      await until(async () => {
        const socket = io(`http://127.0.0.1:${port}`, { transports: ['websocket'], forceNew: true, reconnection: false });
        clients.push(socket);
        return pids.add((await happens(socket, 'hello'))[0]).size === 2;
      }, 'a client at each worker');
      const heard = Promise.all(clients.map((socket) => happens(socket, 'news')));
      clients[0].emit('tell');
      assert.deepEqual(new Set((await heard).map(([text]) => text)), new Set(['for all']));
    } finally {
      clients.forEach((socket) => socket.close());
    }
    started.kill();
  });
  assert.equal(run.code, 0);
});

test('config: with --instance-var it starts in strict mode', ours, async () => {
  const files = {
    'config/default.json': '{ "text": "configured" }',
    'app.js': `const config = ${load('config')};
      require('node:http').createServer((request, response) => response.end(config.get('text'))).listen(0, '127.0.0.1');`,
  };
  const run = await cli({
    args: ['-i', '2', '--instance-var', 'APP_INSTANCE', 'app.js'], files, env: { NODE_CONFIG_STRICT_MODE: '1', NODE_ENV: '' },
  }, async (started) => {
    assert.equal((await request(await started.port())).body, 'configured');
    started.kill();
  });
  assert.equal(run.code, 0);
});
