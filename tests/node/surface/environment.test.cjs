'use strict';
// What a program in a worker finds around it: what it would find without cluster-rs.

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { isStock, ours, play } = require('../support/index.cjs');

// The environments of the primary, the worker, what a worker starts, and what was asked for at the fork.
const environments = {
  async primary({ cluster, report, happens, data }) {
    const before = { ...process.env };
    for (const env of data) {
      const worker = cluster.fork(env);
      report('unchanged', JSON.stringify(process.env) === JSON.stringify(before));
      await happens(worker, 'exit');
    }
    report('primary', before);
  },
  worker({ report }) {
    report('worker', { ...process.env }, process.execArgv, process.argv.slice(2));
    const { spawnSync } = require('node:child_process');
    report('child', spawnSync('env', ['-0'], { encoding: 'utf8' }).stdout.split('\0').filter(Boolean).sort());
    process.disconnect();
  },
};

const OPTIONS = [undefined, '', '--no-warnings', '--stack-trace-limit=20  --no-warnings ', '--title="a b\\"c"'];
for (const NODE_OPTIONS of OPTIONS) {
  test(`the environment is the primary's and the fork's, nothing else (NODE_OPTIONS: ${NODE_OPTIONS})`, async () => {
    const data = [undefined, { ONE: '1' }, { NODE_OPTIONS: '--stack-trace-limit=7' }, { NODE_OPTIONS: '' }];
    const run = await play({ ...environments, data, env: NODE_OPTIONS === undefined ? {} : { NODE_OPTIONS } });
    const primary = run.one('primary');
    assert.equal(primary.NODE_OPTIONS, NODE_OPTIONS);
    const wanted = data.map((env) => ({ ...primary, ...env }));
    const workers = run.all('worker');
    assert.deepEqual(workers.map(([env]) => env), wanted);
    assert.deepEqual(workers.map(([, execArgv, argv]) => [execArgv, argv]), new Array(data.length).fill([[], []]));
    const lines = wanted.map((env) => Object.entries(env).map(([name, value]) => `${name}=${value}`).sort());
    assert.deepEqual(run.all('child').map(([list]) => list), lines);
    assert.deepEqual(run.all('unchanged'), new Array(data.length).fill([true]));
  });
}

test('a variable that the fork takes away is away', async () => {
  const run = await play({
    ...environments,
    env: { NODE_OPTIONS: '--no-warnings', GOES: '1' },
    async primary({ cluster, happens }) {
      await happens(cluster.fork({ NODE_OPTIONS: undefined, GOES: undefined }), 'exit');
    },
  });
  const [[env]] = run.all('worker');
  assert.deepEqual(['NODE_OPTIONS' in env, 'GOES' in env], [false, false]);
});

test('the program\'s own preloads find the environment clean as well, and keep their order', async () => {
  const preload = (name) => `
    const { report } = require(process.env.SUPPORT + '/inside.cjs');
    const { isWorker } = require('cluster');
    if (isWorker) {
      const names = Object.keys(process.env).filter((one) => /^(CL_(?!MECHANISM$)|NODE_OPTIONS|NODE_CHANNEL|NODE_UNIQUE)/.test(one));
      report('preload', '${name}', names, process.env.NODE_OPTIONS);
    }
  `;
  const NODE_OPTIONS = '--require ./one.cjs --require=./two.cjs --import ./four.mjs';
  const run = await play({
    files: {
      'one.cjs': preload('one'),
      'two.cjs': preload('two'),
      'three.cjs': preload('three'),
      'four.mjs': `import { createRequire } from 'node:module';
        const require = createRequire(import.meta.url);
        ${preload('four')}`,
    },
    env: { NODE_OPTIONS },
    execArgv: ['--require', './three.cjs'],
    async primary({ cluster, happens }) {
      await happens(cluster.fork(), 'exit');
    },
    worker({ report }) {
      report('main', process.execArgv, process.env.NODE_OPTIONS);
      process.disconnect();
    },
  });
  assert.deepEqual(run.all('preload'),
    ['one', 'two', 'three', 'four'].map((name) => [name, ['NODE_OPTIONS'], NODE_OPTIONS]));
  assert.deepEqual(run.all('main'), [[['--require', './three.cjs'], NODE_OPTIONS]]);
});

test('no new globals, no signal handlers, no listeners of ours for what programs listen to', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const events = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGCHLD', 'uncaughtException', 'unhandledRejection', 'message'];
      const before = events.map((name) => process.listenerCount(name));
      await happens(cluster.fork(), 'exit');
      report('primary', events.map((name, i) => [name, process.listenerCount(name) - before[i]]));
    },
    worker({ report }) {
      // Beside what the same Node has when no cluster started it.
      const look = () => [Object.getOwnPropertyNames(globalThis),
        /SigCgt:\s*(\w+)/.exec(require('node:fs').readFileSync('/proc/self/status', 'utf8'))[1]];
      const plain = require('node:child_process').spawnSync(process.execPath,
        ['-e', `require("cluster"); console.log(JSON.stringify((${look})()))`], { encoding: 'utf8' });
      const [known, caught] = JSON.parse(plain.stdout);
      const [names, mine] = look();
      const heard = process.eventNames().filter((name) => /^SIG|^uncaught|^unhandled/.test(name));
      report('worker', names.filter((name) => !known.includes(name)), mine === caught, heard,
        process.listenerCount('message'));
      process.disconnect();
    },
  });
  for (const [name, count] of run.one('primary')) assert.equal(count, 0, name);
  // The listener for messages is that of Node's own Worker object.
  assert.deepEqual(run.all('worker'), [[[], true, [], 1]]);
});

test('the worker is where it would be: main module, paths, title, stdio, parent', async () => {
  const run = await play({
    files: {
      'app.cjs': `
        const { report } = require(process.env.SUPPORT + '/inside.cjs');
        const links = [0, 1, 2].map((fd) => require('fs').readlinkSync('/proc/self/fd/' + fd));
        report('main', require.main === module, module.id, module.parent ?? null, process.argv, process.title);
        report('process', process.ppid, links);
        report('channel', process.channel !== undefined, typeof process.send, process.connected);
        process.disconnect();
      `,
    },
    async primary({ cluster, report, happens }) {
      cluster.setupPrimary({ exec: 'app.cjs', args: ['x'] });
      const worker = cluster.fork();
      const { stdio } = worker.process;
      report('stdio', stdio.slice(0, 4), stdio.length);
      const { readlinkSync } = require('node:fs');
      report('primary', process.pid, [0, 1, 2].map((fd) => readlinkSync(`/proc/self/fd/${fd}`)));
      await happens(worker, 'exit');
    },
  });
  const argv = [process.execPath, path.join(run.directory, 'app.cjs'), 'x'];
  assert.deepEqual(run.all('main'), [[true, '.', null, argv, process.execPath]]);
  assert.deepEqual(run.all('process'), run.all('primary'));
  const [[stdio, length]] = run.all('stdio');
  assert.deepEqual(stdio, [null, null, null, null]);
  // What is seen of us: one more place in the list, for the descriptor that leads to the engine.
  assert.ok(length <= (isStock ? 4 : 5), String(length));
  assert.deepEqual(run.all('channel'), [[true, 'function', true]]);
});

// A server that knows nothing of clusters, as CommonJS and as ES module.
const server = (word) => `
  http.createServer((request, response) => response.end('${word}')).listen(0, '127.0.0.1');
`;
for (const [name, text] of [['cjs', 'const http = require("http");'], ['mjs', 'import http from "node:http";']]) {
  test(`a worker whose script (${name}) never mentions the module is a full member`, ours, async () => {
    const run = await play({
      files: { [`plain.${name}`]: `${text}\n${server('plain')}` },
      data: `plain.${name}`,
      async primary({ cluster, report, happens, request, data }) {
        cluster.setupPrimary({ exec: data });
        const workers = [cluster.fork(), cluster.fork()];
        const [[{ port }]] = await Promise.all(workers.map((worker) => happens(worker, 'listening')));
        for (let i = 0; i < 4; i++) report('answer', (await request(port)).body);
        // Counted by the engine: the connections went through it.
        report('delivered', cluster.stats().workers.reduce((sum, { delivered }) => sum + delivered, 0));
        cluster.disconnect();
      },
    });
    assert.deepEqual(run.all('answer'), new Array(4).fill(['plain']));
    assert.equal(run.one('delivered'), 4);
  });
}

const shell = { wrapper: '#!/bin/sh\n"$NODE" "$@"\n', exec: '#!/bin/sh\nexec "$NODE" "$@"\n' };
for (const [name, text] of Object.entries(shell)) {
  test(`a worker behind a ${name} of its Node is a member`, async () => {
    const run = await play({
      files: { 'wrap.sh': text, 'plain.cjs': `const http = require('http');\n${server('wrapped')}` },
      env: { NODE: process.execPath },
      async primary({ cluster, report, happens, request, directory }) {
        require('node:fs').chmodSync('wrap.sh', 0o755);
        process.execPath = `${directory}/wrap.sh`;
        cluster.setupPrimary({ exec: 'plain.cjs' });
        const workers = [cluster.fork(), cluster.fork()];
        const [[{ port }]] = await Promise.all(workers.map((worker) => happens(worker, 'listening')));
        for (let i = 0; i < 4; i++) report('answer', (await request(port)).body);
        report('delivered', cluster.stats?.().workers.reduce((sum, { delivered }) => sum + delivered, 0) ?? 4);
        const exits = Promise.all(workers.map((worker) => happens(worker, 'exit')));
        for (const worker of workers) worker.disconnect();
        report('exits', await exits);
      },
    });
    assert.deepEqual(run.all('answer'), new Array(4).fill(['wrapped']));
    assert.equal(run.one('delivered'), 4);
    assert.deepEqual(run.one('exits'), [[0, null], [0, null]]);
  });
}

const clusterApp = (load) => `
  ${load}
  if (cluster.isPrimary) {
    report('register', typeof cluster.stats, process.execArgv);
    const workers = [cluster.fork(), cluster.fork()];
    let listening = 0;
    cluster.on('listening', async (worker, { port }) => {
      if (++listening < 2) return;
      for (let i = 0; i < 4; i++) report('answer', (await request(port)).body);
      report('delivered', cluster.stats().workers.reduce((sum, { delivered }) => sum + delivered, 0));
      cluster.disconnect();
    });
  } else {
    report('worker', process.execArgv, process.env.NODE_OPTIONS ?? null);
    http.createServer((request, response) => response.end('served')).listen(0, '127.0.0.1');
  }
`;
const clusterApps = {
  'app.cjs': clusterApp(`
    const cluster = require('node:cluster');
    const http = require('http');
    const { report } = require(process.env.SUPPORT + '/inside.cjs');
    const { request } = require(process.env.SUPPORT + '/clients.cjs');
  `),
  'app.mjs': clusterApp(`
    import cluster from 'node:cluster';
    import http from 'node:http';
    import { createRequire } from 'node:module';
    const require = createRequire(import.meta.url);
    const { report } = require(process.env.SUPPORT + '/inside.cjs');
    const { request } = require(process.env.SUPPORT + '/clients.cjs');
  `),
};
for (const [flag, entry] of ['--require', '--import'].flatMap((one) => [[one, 'app.cjs'], [one, 'app.mjs']])) {
  test(`node ${flag} cluster-rs/register ${entry}: the program does not know of us`, ours, async () => {
    const execArgv = [flag, 'cluster-rs/register'];
    const run = await play({ files: clusterApps, execArgv, entry });
    assert.deepEqual(run.all('register'), [['function', execArgv]]);
    assert.deepEqual(run.all('worker'), new Array(2).fill([execArgv, null]));
    assert.deepEqual(run.all('answer'), new Array(4).fill(['served']));
    assert.equal(run.one('delivered'), 4);
  });
}

test('NODE_OPTIONS=--require=cluster-rs/register: the same', ours, async () => {
  const NODE_OPTIONS = '--require=cluster-rs/register';
  const run = await play({ files: clusterApps, entry: 'app.mjs', env: { NODE_OPTIONS } });
  assert.deepEqual(run.all('register'), [['function', []]]);
  assert.deepEqual(run.all('worker'), new Array(2).fill([[], NODE_OPTIONS]));
  assert.equal(run.one('delivered'), 4);
});

test('the package may stand in a folder whose name has spaces, quotes and backslashes', ours, async () => {
  const source = path.dirname(require.resolve('cluster-rs/package.json'));
  const { files, main } = require('cluster-rs/package.json');
  const strange = 'a "strange" \\folder\'s name/cluster-rs';
  const run = await play({
    files: { ...clusterApps, 'plain.cjs': `const http = require('http');\n${server('strange')}` },
    data: { source, files, main, strange },
    module: 'node:cluster',
    async primary({ report, happens, request, data, directory }) {
      const { cpSync } = require('node:fs');
      const there = `${directory}/${data.strange}`;
      const skip = /\/(target|node_modules|src|scripts)(\/|$)/;
      cpSync(data.source, there, { recursive: true, filter: (name) => !skip.test(name.slice(data.source.length)) });
      const cluster = require(there);
      cluster.setupPrimary({ exec: 'plain.cjs' });
      const worker = cluster.fork();
      const [{ port }] = await happens(worker, 'listening');
      report('answer', (await request(port)).body, cluster.stats().workers[0].delivered);
      worker.disconnect();
      await happens(worker, 'exit');
    },
  });
  assert.deepEqual(run.all('answer'), [['strange', 1]]);
  assert.ok(fs.existsSync(source));
});

test('a stale or copied environment makes nobody a worker of ours, does not stop the program, and lets it fork nobody', ours, async () => {
  const run = await play({
    env: { CL_WORKER_ID: '7', CL_WORKER_SLOT: '3', CL_CHANNEL_FD: '1' },
    async primary({ cluster, report, plain, ask, happens }) {
      report('primary', cluster.isPrimary, Object.keys(process.env).filter((name) => /^CL_(?!MECHANISM$)/.test(name)));
      try {
        cluster.fork();
      } catch (error) {
        report('refused', plain(error));
      }
      const server = require('node:net').createServer((socket) => socket.end('served')).listen(0, '127.0.0.1');
      await happens(server, 'listening');
      report('answer', await ask(server.address().port));
      server.close();
    },
  });
  assert.deepEqual(run.all('primary'), [[true, []]]);
  const { code, syscall, message } = run.one('refused');
  assert.deepEqual([code, syscall], ['ENOTCONN', 'fork']);
  assert.match(message, /descriptor 1, which CL_CHANNEL_FD names, is not its channel/);
  assert.equal(run.one('answer'), 'served');
});
