'use strict';
// Programs in front of the script: the worker's place goes to the one that listens. Where that is impossible a line names who keeps it.

const test = require('node:test');
const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const net = require('node:net');
const { happens, ours, request, until } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');

const RUN = `
  const { spawn } = require('node:child_process');
  spawn('sh', ['-c', process.argv[2]], { stdio: 'inherit' }).on('exit', (code, signal) => process.exit(signal ? 1 : code));`;
const CROSS_ENV = 'node_modules/cross-env/cli.cjs';
const files = {
  // As npm and npx do.
  'npm.cjs': RUN,
  'own-wrapper.cjs': RUN,
  // As cross-env and dotenv do.
  'node_modules/cross-env/cli.cjs': `
    const [, , pair, file, ...args] = process.argv;
    const [name, value] = pair.split('=');
    require('node:child_process').spawn(file, args, { stdio: 'inherit', env: { ...process.env, [name]: value } }).on('exit', process.exit);`,
  // As tsx does: it hears from its child, on a socket and on a channel of its own.
  'node_modules/tsx/cli.cjs': `
    const { execPath, pid, argv } = process;
    const server = require('node:net').createServer().listen('pipe' + pid, () => {
      const stdio = ['inherit', 'inherit', 'inherit', 'ipc'];
      require('node:child_process').spawn(execPath, argv.slice(2), { stdio }).on('exit', process.exit);
    });`,
  // A tool that starts a program, by the names of commands that do.
  'node_modules/.bin/per-env': `#!/usr/bin/env node\nrequire('../npm/bin/tool.js')`,
  'node_modules/.bin/shim': '#!/bin/sh\nbasedir=$(dirname "$0")\nexec node  "$basedir/../npm/bin/tool.js" "$@"\n',
  'node_modules/npm/bin/tool.js': RUN,
  'say.js': `
    const cluster = require('node:cluster');
    require('node:http').createServer((asked, answer) => {
      const { FOO, NODE_APP_INSTANCE: instance, NODE_OPTIONS: options } = process.env;
      const left = Object.keys(process.env).filter((name) => /^CL_(?!MECHANISM)/.test(name));
      answer.end(JSON.stringify({ pid: process.pid, left, options, FOO, instance, worker: cluster.isWorker }));
    }).listen(Number(process.env.PORT), '127.0.0.1');`,
};

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await happens(server, 'listening');
  const { port } = server.address();
  server.close();
  await happens(server, 'close');
  return port;
}

const WAYS = [
  ['npm', ['npm.cjs', '--', 'node say.js']],
  ['npm and cross-env', ['npm.cjs', '--', 'node node_modules/cross-env/cli.cjs FOO=1 node say.js'], { FOO: '1' }],
  ['cross-env alone', ['node_modules/cross-env/cli.cjs', '--', 'FOO=1', 'node', 'say.js'], { FOO: '1' }],
  ['cross-env twice', ['npm.cjs', '--', `node ${CROSS_ENV} FOO=1 node ${CROSS_ENV} BAR=2 node say.js`], { FOO: '1' }],
  ['a command of node_modules/.bin', ['per-env', '--', 'node say.js']],
  ['the shell script that pnpm makes of one', ['node_modules/.bin/shim', '--', 'node say.js']],
  ['tsx', ['node_modules/tsx/cli.cjs', '--', 'say.js']],
  ['npm and tsx', ['npm.cjs', '--', 'node node_modules/tsx/cli.cjs say.js']],
  ['a wrapper that nobody knows, behind npm', ['npm.cjs', '--', 'node own-wrapper.cjs "node say.js"']],
  ['options before ours', ['npm.cjs', '--', 'NODE_OPTIONS="--stack-trace-limit=7 $NODE_OPTIONS" node say.js'],
    { options: '--stack-trace-limit=7' }],
];
for (const [name, args, more = {}] of WAYS) {
  test(`${name}: two workers serve, and nothing of ours is left`, ours, async () => {
    const port = await freePort();
    const run = await cli({ args: ['-i', '2', ...args], files, env: { PORT: String(port) } }, async (started) => {
      await started.wait(/listening on 127\.0\.0\.1:[0-9]+ \(primary: pid [0-9]+; 2 workers/);
      const found = [];
      while (new Set(found.map(({ pid }) => pid)).size < 2) found.push(JSON.parse((await request(port)).body));
      for (const { pid: _pid, instance: _instance, ...rest } of found) assert.deepEqual(rest, { left: [], worker: true, ...more });
      assert.deepEqual(new Set(found.map(({ instance }) => instance)), new Set(['0', '1']));
      started.kill();
    });
    assert.equal(run.code, 0);
    assert.equal(run.stderr, '');
  });
}

const HIDES = [
  ['NODE_OPTIONS in a script', ['npm.cjs', '--', 'NODE_OPTIONS=--stack-trace-limit=7 node say.js'],
    /sh -c NODE_OPTIONS=.* replaces NODE_OPTIONS, .* write NODE_OPTIONS="\.\.\. \$NODE_OPTIONS"$/],
  ['a cleared environment', ['npm.cjs', '--', 'env -i PATH="$PATH" PORT=$PORT node say.js'], /sh -c env -i .* does not pass the worker's place on; /],
  ['a wrapper that nobody knows', ['own-wrapper.cjs', '--', 'node say.js'], /own-wrapper\.cjs .*\(pid [0-9]+\) does not pass /],
  ['node --watch', ['--listen-timeout', '4s', 'npm.cjs', '--', 'node --watch say.js'],
    /node --watch say\.js \(pid [0-9]+\) keeps the worker's place to itself; /],
];
for (const [name, args, line] of HIDES) {
  test(`${name}: one line says who keeps the place, and the worker that serves goes on`, ours, async () => {
    const port = await freePort();
    const run = await cli({ args: ['-i', '3', ...args], files, env: { PORT: String(port) } }, async (started) => {
      await started.wait(/listens on port [0-9]+ alone, because .*\n/, { on: 'stderr' });
      const [first, second] = [await request(port), await request(port)].map(({ body }) => JSON.parse(body).pid);
      assert.equal(first, second);
      // Not every wrapper passes a signal on.
      started.kill('SIGTERM', -started.pid);
    });
    assert.equal(run.code, 0);
    assert.equal(run.said().length, 1, run.stderr);
    assert.match(run.said()[0].replace(/\)$/, ''), line);
  });
}

test('what a program behind npm forks before it listens does not take its place', ours, async () => {
  const run = await cli({
    args: ['-i', '2', 'npm.cjs', '--', 'node app.js'], files: {
      ...files,
      'helper.js': `
        const cluster = require('node:cluster');
        const left = Object.keys(process.env).filter((name) => /^CL_(?!MECHANISM)/.test(name));
        const server = require('node:net').createServer().listen(0, '127.0.0.1', () => {
          process.send({ isPrimary: cluster.isPrimary, left, options: process.env.NODE_OPTIONS ?? null });
          server.close(() => process.disconnect());
        });`,
      // A thread listens as well, alone.
      'app.js': `
        const { Worker } = require('node:worker_threads');
        const code = 'require("node:net").createServer().listen(0, function () { this.close(); })';
        const helper = require('node:child_process').fork('./helper.js');
        helper.on('message', (told) => new Worker(code, { eval: true }).on('exit', (code) => {
          const body = JSON.stringify({ pid: process.pid, told, code });
          require('node:http').createServer((asked, answer) => answer.end(body)).listen(0, '127.0.0.1');
        }));`,
    },
  }, async (started) => {
    const port = await started.port();
    const found = [];
    while (new Set(found.map(({ pid }) => pid)).size < 2) found.push(JSON.parse((await request(port)).body));
    for (const { told, code } of found) assert.deepEqual({ ...told, code }, { isPrimary: true, left: [], options: null, code: 0 });
    started.kill();
  });
  assert.equal(run.code, 0);
});

const withNpm = { skip: ours.skip || (spawnSync('npm', ['--version']).status !== 0 && 'there is no npm') };
test('cluster-rs npm -- start, as the command npm is found in PATH', withNpm, async () => {
  const manifest = JSON.stringify({ name: 'app', version: '1.0.0', scripts: { start: 'node say.js' } });
  const run = await cli({
    args: ['-i', '2', 'npm', '--', 'start'], files: { ...files, 'package.json': manifest }, env: { PORT: '0' },
  }, async (started) => {
    const port = await started.port();
    const pids = new Set();
    while (pids.size < 2) pids.add(JSON.parse((await request(port)).body).pid);
    started.kill();
  });
  assert.equal(run.code, 0);
});

test('a program that is none of Node\'s is told as that', ours, async () => {
  for (const name of ['run.sh', './run.sh', 'sh']) {
    const run = await cli({ args: [name], files: { 'run.sh': '#!/bin/sh\nexec node server.js\n' } });
    assert.match(run.said()[0], /sh is no program for Node; give the JavaScript file that it starts, or make it a script of package\.json: /);
    assert.deepEqual([run.said().length, run.code], [1, 1]);
  }
});

test('where this system has no addon one worker is started behind a wrapper, and that is said', ours, async () => {
  const port = await freePort();
  const run = await cli({
    files: { ...files, 'mac.cjs': "Object.defineProperty(process, 'platform', { value: 'darwin' });" },
    command: ([node, bin]) => [node, '-r', './mac.cjs', bin, '-i', '3', 'npm.cjs', '--', 'node say.js'], env: { PORT: String(port) },
  }, async (started) => {
    await started.wait(/1 worker of npm\.cjs/);
    await until(() => request(port).catch(() => null), 'an answer');
    started.kill('SIGTERM', -started.pid);
  });
  assert.deepEqual(run.said(), ['only one worker can serve behind npm.cjs without the addon']);
});
