'use strict';
// A release that is replaced while it runs: `current` leads to the next one, and the old one is removed.

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { ours, request, until } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');

const HOME = path.join(__dirname, '../../../node-addon');
const server = (release) => `
  require('node:http').createServer((request, answer) => {
    if (request.url === '/exit') process.exit(1);
    if (request.url === '/stay') return console.log('held') || setTimeout(() => answer.end('stayed'), 300);
    answer.end('release ${release}');
  }).listen(Number(process.env.PORT) || 0, '127.0.0.1');`;
const INSTALL = `
  for release in 1 2; do
    mkdir -p releases/$release/node_modules/cluster-rs
    (cd '${HOME}' && cp -r bin lib index.* register.* package.json *.node "$OLDPWD/releases/$release/node_modules/cluster-rs/")
    mkdir -p releases/$release/node_modules/.bin
    ln -s ../cluster-rs/bin/cluster-rs.cjs releases/$release/node_modules/.bin/cluster-rs
  done
  ln -s releases/1 current
  exec "$@"`;

function installed(line) {
  return ['sh', '-c', INSTALL, '-', ...line];
}

function replace({ directory }) {
  fs.unlinkSync(`${directory}/current`);
  fs.symlinkSync('releases/2', `${directory}/current`);
  fs.rmSync(`${directory}/releases/1`, { recursive: true });
}

const files = { 'releases/1/server.js': server(1), 'releases/2/server.js': server(2) };

for (const start of ['current/node_modules/cluster-rs/bin/cluster-rs.cjs', 'current/node_modules/.bin/cluster-rs']) {
  test(`the command, started as ${start}: a reload serves the new release, crashes are replaced`, ours, async () => {
    const run = await cli({
      files, command: ([node]) => installed([node, start, '-i', '2', 'current/server.js']),
    }, async (started) => {
      const port = await started.port();
      assert.equal((await request(port)).body, 'release 1');
      // An old worker still has to close its connections well.
      const held = request(port, { path: '/stay' });
      await started.wait(/held/);
      replace(started);
      started.kill('SIGHUP');
      assert.equal((await held).body, 'stayed');
      await started.wait(/reload: done/);
      await until(() => started.processes().length === 3, 'the end of the old ones');
      for (let i = 0; i < 4; i++) assert.equal((await request(port)).body, 'release 2');
      await request(port, { path: '/exit' }).catch(() => {});
      await started.wait(/exited with code 1; the next starts/, { on: 'stderr' });
      for (let i = 0; i < 4; i++) assert.equal((await request(port)).body, 'release 2');
      started.kill();
    });
    assert.equal(run.code, 0);
    assert.equal(run.said().length, 1);
  });
}

test('a crash brings no other release, and a reload that fails halfway goes back', ours, async () => {
  const broken = `if (process.env.NODE_APP_INSTANCE === '1') process.exit(9); ${server(2)}`;
  const run = await cli({
    files: { ...files, 'releases/2/server.js': broken },
    command: ([node]) => installed([node, `${HOME}/bin/cluster-rs.cjs`, '-i', '2', 'current/server.js']),
  }, async (started) => {
    const port = await started.port();
    fs.unlinkSync(`${started.directory}/current`);
    fs.symlinkSync('releases/2', `${started.directory}/current`);
    await request(port, { path: '/exit' }).catch(() => {});
    await started.wait(/exited with code 1; the next starts/, { on: 'stderr' });
    for (let i = 0; i < 4; i++) assert.equal((await request(port)).body, 'release 1');
    started.kill('SIGHUP');
    await started.wait(/reload rolled back/, { on: 'stderr' });
    await until(() => started.processes().length === 3, 'the end of the others');
    for (let i = 0; i < 4; i++) assert.equal((await request(port)).body, 'release 1');
    started.kill();
  });
  assert.equal(run.code, 0);
  const line = /^reload rolled back: the new worker 1 \(pid [0-9]+\) exited with code 9 before it was ready; all workers are as before$/;
  assert.match(run.said()[1], line);
});

test('the command from elsewhere, removed: workers go on without it, and that is said', ours, async () => {
  const run = await cli({
    files: { ...files, 'app/server.js': server('app') },
    command: ([node]) => installed([node, 'releases/1/node_modules/cluster-rs/bin/cluster-rs.cjs', '-i', '2', 'app/server.js']),
  }, async (started) => {
    const port = await started.port();
    fs.rmSync(`${started.directory}/releases`, { recursive: true });
    started.kill('SIGHUP');
    await started.wait(/reload: done/);
    for (let i = 0; i < 4; i++) assert.equal((await request(port)).body, 'release app');
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.equal(run.stderr.match(/the files of cluster-rs are gone from \S+\/releases\/1\/node_modules\/cluster-rs/g).length, 1);
});

const ELSEWHERE = `for release in 1 2; do mv releases/$release/node_modules releases/$release/modules; done
  NODE_PATH=$PWD/current/modules exec "$@"`;

for (const [where, before] of [['its node_modules', []], ['NODE_PATH', ['sh', '-c', ELSEWHERE, '-']]]) {
  test(`a program of its own that forks, with the package in ${where}`, ours, async () => {
    const PROGRAM = `
      const cluster = require('cluster-rs');
      if (cluster.isPrimary) {
        cluster.fork().on('listening', ({ port }) => console.log('cluster-rs: listening on x:' + port + ' '));
        process.on('SIGHUP', () => cluster.fork().on('online', () => console.log('online')).on('listening', () => console.log('second')));
        process.on('SIGTERM', () => cluster.disconnect(() => process.exit(0)));
      } else require('./server.js');`;
    const run = await cli({
      files: { ...files, 'releases/1/main.js': PROGRAM, 'releases/2/main.js': PROGRAM },
      command: ([node]) => installed([...before, node, 'current/main.js']),
    }, async (started) => {
      await started.port();
      replace(started);
      started.kill('SIGHUP');
      await started.wait(/second/);
      started.kill();
    });
    assert.equal(run.code, 0);
    assert.equal(run.stderr, '');
  });
}

test('a worker whose release was removed takes its first connection, reports a load and drains', ours, async () => {
  const PROGRAM = `
    const cluster = require('cluster-rs');
    if (cluster.isPrimary) {
      cluster.setupPrimary({ mechanism: 'passed' });
      cluster.fork().on('listening', ({ port }) => console.log('cluster-rs: listening on x:' + port + ' '));
      process.on('SIGHUP', () => Object.values(cluster.workers)[0].send('load'));
      process.on('SIGTERM', () => cluster.disconnect(() => process.exit(0)));
    } else {
      process.on('message', () => { cluster.worker.setLoad(3); console.log('reported'); });
      require('./server.js');
    }`;
  const run = await cli({
    files: { ...files, 'releases/1/main.js': PROGRAM },
    command: ([node]) => installed([node, 'current/main.js']),
  }, async (started) => {
    const port = await started.port();
    replace(started);
    started.kill('SIGHUP');
    await started.wait(/reported/);
    const agent = new http.Agent({ keepAlive: true });
    const held = request(port, { path: '/stay', agent });
    await started.wait(/held/);
    started.kill();
    const { body, headers } = await held;
    assert.deepEqual([body, headers.connection], ['stayed', 'close']);
    agent.destroy();
  });
  assert.equal(run.code, 0);
  assert.equal(run.stderr, '');
});
