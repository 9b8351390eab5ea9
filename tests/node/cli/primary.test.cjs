'use strict';
// Code in the primary (--primary), and the name of the variable that tells a worker its place (--instance-var).

const test = require('node:test');
const assert = require('node:assert/strict');
const { ours, request } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');

const { variable } = require('../../../node-addon/lib/cli/values.cjs');

// Answers with what the primary said to it.
const APP = `
  const http = require('node:http');
  const told = new Promise((resolve) => process.once('message', resolve));
  http.createServer(async (request, response) => response.end(await told)).listen(0, '127.0.0.1');
  process.send('tell me');`;

test('modules of both kinds are loaded in the primary, in turn, before a worker starts', ours, async () => {
  const run = await cli({
    args: ['--primary', './first.cjs', '-i', '2', '--primary=second.mjs', 'app.js'], files: {
      'app.js': APP,
      'first.cjs': `
        const cluster = require('node:cluster');
        console.log('first', cluster.isPrimary, Object.keys(cluster.workers).length);
        globalThis.told = 'loaded';
        cluster.on('message', (worker) => worker.send(globalThis.told));`,
      'second.mjs': `
        import cluster from 'node:cluster';
        await new Promise((resolve) => setTimeout(resolve, 50));
        globalThis.told += ' both';
        console.log('second', cluster.isPrimary, Object.keys(cluster.workers).length);`,
    },
  }, async (started) => {
    assert.equal((await request(await started.port())).body, 'loaded both');
    started.kill();
  });
  assert.equal(run.code, 0);
  assert.match(run.stdout, /^first true 0\nsecond true 0\ncluster-rs: version /);
});

test('a module that cannot be loaded ends it before any worker starts', ours, async () => {
  const files = {
    'throws.cjs': 'throw new Error("no database");', 'rejects.mjs': 'await Promise.reject(7);', 'bad.cjs': 'let = ;',
    'needs.cjs': "require('./is-not-there.cjs');", 'app.js': 'console.log("started");',
  };
  const wanted = {
    'throws.cjs': /throws\.cjs failed \(--primary\): Error: no database/, 'rejects.mjs': /rejects\.mjs failed \(--primary\): 7/,
    'bad.cjs': /bad\.cjs failed \(--primary\): .*SyntaxError/s, 'needs.cjs': /needs\.cjs failed .*is-not-there/,
    'missing.cjs': /^no such file: .*missing\.cjs$/m,
  };
  for (const [name, line] of Object.entries(wanted)) {
    const run = await cli({ args: ['--primary', name, 'app.js'], files });
    assert.equal(run.code, 1, name);
    assert.equal(run.stdout, '', name);
    assert.match(run.stderr.replace(/^cluster-rs: /, ''), line, name);
  }
});

test('a stop while a module is loaded ends it', ours, async () => {
  const files = { 'slow.mjs': 'console.log("loading"); await new Promise((r) => setTimeout(r, 60_000));' };
  const run = await cli({ args: ['--primary', 'slow.mjs', 'server.js'], files }, async (started) => {
    await started.wait(/loading/);
    started.kill();
  });
  assert.equal(run.code, 0);
});

test('the place is told under another name, and NODE_APP_INSTANCE is left alone', ours, async () => {
  const code = 'console.log([process.env.MY_PLACE, process.env.NODE_APP_INSTANCE].join());';
  for (const [env, rest] of [[{}, ''], [{ NODE_APP_INSTANCE: 'blue' }, 'blue']]) {
    const run = await cli({ args: ['-i', '2', '--instance-var', 'MY_PLACE', 'app.js'], files: { 'app.js': code }, env });
    assert.equal(run.code, 0);
    const lines = run.stdout.split('\n').filter((line) => line.startsWith('[')).sort();
    assert.deepEqual(lines, [`[0] 0,${rest}`, `[1] 1,${rest}`]);
  }
});

test('only a free name will do', ours, async () => {
  assert.equal(variable('--instance-var', 'APP_1'), 'APP_1');
  for (const bad of ['', '1x', 'a b', 'a=b', 'NODE_OPTIONS', 'NODE_UNIQUE_ID', 'NODE_CHANNEL_FD', 'CL_WORKER_ID', 'PATH']) {
    assert.throws(() => variable('--instance-var', bad), { exitCode: 2, message: /^--instance-var takes the name of/ }, bad);
  }
  const run = await cli({ args: ['--instance-var'] });
  assert.equal(run.code, 2);
});
