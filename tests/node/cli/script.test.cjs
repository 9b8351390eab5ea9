'use strict';
// The script runs as if node itself had been given it.

const test = require('node:test');
const assert = require('node:assert/strict');
const path = require('node:path');
const { ours, request } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');
const { typescript } = require('../../../node-addon/lib/cli/script.cjs');

/** What two workers of the script answer, and the run. */
async function answers(options, ask = (port) => request(port)) {
  const found = [];
  const run = await cli(options, async (started) => {
    const port = await started.port();
    while (new Set(found.map(({ pid }) => pid)).size < 2) found.push(JSON.parse((await ask(port)).body));
    started.kill();
  });
  assert.equal(run.code, 0);
  return { run, found };
}

test('a CommonJS script is the main module, with its own arguments and nothing of ours', ours, async () => {
  const { run, found } = await answers({ args: ['-i', '2', './server.js', '--', '-i', 'x y', '--'] });
  for (const answer of found) {
    assert.equal(answer.main, true);
    assert.equal(answer.filename, path.join(run.directory, 'server.js'));
    assert.deepEqual(answer.argv, [process.execPath, path.join(run.directory, 'server.js'), '-i', 'x y', '--']);
    assert.deepEqual(answer.execArgv, []);
    assert.equal(answer.cwd, run.directory);
  }
  assert.deepEqual([...new Set(found.map(({ instance }) => instance))].sort(), ['0', '1']);
  assert.equal(run.stderr, '');
});

test('nothing of ours is left in the environment, and children of a worker are none', ours, async () => {
  const { found } = await answers({
    args: ['-i', '2', 'app.js'], files: {
      'app.js': `
        const { spawnSync } = require('node:child_process');
        const foreign = /^(CLUSTER_RS|CL_|NODE_(UNIQUE|CHANNEL|OPTIONS))/;
        const names = Object.keys(process.env).filter((name) => foreign.test(name) && name !== 'CL_MECHANISM');
        const code = 'require("node:cluster").isPrimary + process.env.NODE_APP_INSTANCE';
        const child = spawnSync(process.execPath, ['-p', code]);
        const listeners = ['SIGTERM', 'SIGINT'].map((name) => process.once(name, () => process.exit(0)).listenerCount(name));
        const body = JSON.stringify({ pid: process.pid, names, child: String(child.stdout), listeners });
        require('node:http').createServer((q, response) => response.end(body)).listen(0, '127.0.0.1');`,
    },
  });
  for (const { names, child, listeners } of found) {
    assert.deepEqual(names, []);
    assert.match(child, /^true[01]\n$/);
    assert.deepEqual(listeners, [1, 1]);
  }
});

test('an ES module', ours, async () => {
  const { run, found } = await answers({
    args: ['-i', '2', 'app.mjs'], files: {
      'app.mjs': `import http from 'node:http';
        const body = JSON.stringify({ pid: process.pid, url: import.meta.url, argv: process.argv.slice(1) });
        await null;
        http.createServer((request, response) => response.end(body)).listen(0, '127.0.0.1');`,
    },
  });
  assert.equal(found[0].url, `file://${run.directory}/app.mjs`);
  assert.deepEqual(found[0].argv, [path.join(run.directory, 'app.mjs')]);
});

test('a folder and a name without its ending, as node finds them', ours, async () => {
  for (const script of ['.', 'server', 'app/']) {
    const files = {
      'package.json': '{ "main": "server.js" }', 'app/index.js': "require('../server.js');",
    };
    const { run, found } = await answers({ args: ['-i', '2', script], files });
    assert.equal(found[0].argv[1], path.resolve(run.directory, script));
  }
});

test('TypeScript where this Node can, a line that says what to do where it cannot', ours, async () => {
  const options = {
    args: ['-i', '2', 'app.ts'], files: {
      'app.ts': `const http = require('node:http');
        const body: string = JSON.stringify({ pid: process.pid } as { pid: number });
        http.createServer((request: unknown, response: any) => response.end(body)).listen(0, '127.0.0.1');`,
    },
  };
  const can = process.features.typescript || process.allowedNodeEnvironmentFlags.has('--experimental-strip-types');
  if (can) {
    await answers(options);
    return;
  }
  const run = await cli(options);
  assert.deepEqual(run.said(), [`Node ${process.version} cannot run TypeScript (app.ts): use Node 22.18 or later, ` +
    'or a loader, such as --node-options "--import tsx"']);
  assert.equal(run.code, 1);
});

test('what TypeScript needs, by the abilities of a Node', ours, () => {
  const node = (typescript, flag, NODE_OPTIONS) => ({
    version: 'v0', features: { typescript }, env: { NODE_OPTIONS },
    allowedNodeEnvironmentFlags: new Set(flag ? ['--experimental-strip-types'] : []),
  });
  const needed = ['--experimental-strip-types'];
  assert.deepEqual(typescript('a.js', [], node(undefined, false)), []);
  assert.deepEqual(typescript('a.mts', [], node('strip', true)), []);
  assert.deepEqual(typescript('a.cts', [], node(undefined, true)), needed);
  assert.deepEqual(typescript('a.ts', [], node(false, true)), needed);
  assert.deepEqual(typescript('a.ts', [], node(false, true, '--no-experimental-strip-types')), []);
  assert.throws(() => typescript('a.ts', ['--title=x'], node(undefined, false)), { exitCode: 1 });
  for (const loader of [['--import', 'tsx'], ['-r', 'x'], ['--loader=x'], ['--require=x']]) {
    assert.deepEqual(typescript('a.ts', loader, node(undefined, false)), []);
  }
  assert.deepEqual(typescript('a.ts', [], node(undefined, false, '--import tsx')), []);
});

test('--node-options are the workers\' alone, and come after nothing of ours', ours, async () => {
  const { found } = await answers({
    args: ['-i', '2', '--node-options', '--require ./before.js "--title=two words"', 'app.js'], files: {
      'before.js': "globalThis.before = require.main === undefined ? 'before main' : 'late';",
      'app.js': `const { pid, title, execArgv } = process;
        const body = JSON.stringify({ pid, before, title, execArgv });
        require('node:http').createServer((request, response) => response.end(body)).listen(0, '127.0.0.1');`,
    },
  });
  for (const { before, title, execArgv } of found) {
    assert.equal(before, 'before main');
    assert.equal(title, 'two words');
    assert.deepEqual(execArgv, ['--require', './before.js', '--title=two words']);
  }
});

test('standard input is empty, and not the terminal\'s', ours, async () => {
  const run = await cli({
    args: ['-i', '2', 'app.js'], stdio: ['pipe', 'pipe', 'pipe'],
    files: { 'app.js': "console.log(`read ${JSON.stringify(require('node:fs').readFileSync(0, 'utf8'))}`);" },
  });
  assert.match(run.stdout, /^\[0\] read ""$/m);
  assert.match(run.stdout, /^\[1\] read ""$/m);
});

test('a program that closes its server ends, as it does under plain node', ours, async () => {
  for (const policy of ['rr', 'none']) {
    const run = await cli({
      args: ['-i', '2', '--policy', policy, '--respawn', 'on-failure', 'app.js'], files: {
        'app.js': `
          process.on('beforeExit', () => console.log('nothing left'));
          const server = require('node:http').createServer((request, response) => {
            response.end();
            server.close();
          }).listen(0, '127.0.0.1');`,
      },
    }, async (started) => {
      const port = await started.port();
      for (const count of [1, 2]) {
        await request(port);
        await started.wait(/\] nothing left/, { count });
      }
    });
    assert.equal(run.code, 0);
  }
});

test('both policies serve', ours, async () => {
  for (const policy of ['rr', 'none']) {
    const run = await cli({ args: ['-i', '2', `--policy=${policy}`, 'server.js'] }, async (started) => {
      const port = await started.port();
      const pids = new Set();
      for (let i = 0; i < 6; i++) pids.add(JSON.parse((await request(port)).body).pid);
      // Under `none` whoever comes first takes it.
      if (policy === 'rr') assert.equal(pids.size, 2);
      started.kill();
    });
    assert.equal(run.code, 0);
  }
});
