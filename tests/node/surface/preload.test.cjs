'use strict';
// Our preload among others: wherever it stands, from wherever the worker runs.

const test = require('node:test');
const assert = require('node:assert/strict');
const { parseEnv } = require('node:util');
const { ours, play, request } = require('../support/index.cjs');
const { cli } = require('../cli/fixtures/run.cjs');

// A program that knows only node:cluster. Its workers run in another directory.
const app = `
  const cluster = require('node:cluster');
  const { report } = require(process.env.SUPPORT + '/inside.cjs');
  const { execArgv, env } = process;
  if (cluster.isPrimary) {
    report('primary', typeof cluster.stats, execArgv, env.NODE_OPTIONS ?? null);
    if (process.argv[2] === 'chdir') process.chdir('/');
    else cluster.setupPrimary({ cwd: '/' });
    const before = cluster.settings.execArgv;
    cluster.fork().on('exit', (code) => {
      const { execArgv: after } = cluster.settings;
      report('exit', code, process.argv[2] === 'chdir' ? after === execArgv : after === before, after);
    });
  } else {
    const joined = cluster.worker.slot === 0 && cluster.engine === 'cluster-rs';
    const left = Object.keys(env).filter((name) => /^CL_(?!MECHANISM)/.test(name));
    report('worker', process.cwd(), joined, execArgv, env.NODE_OPTIONS ?? null, left);
    process.disconnect();
  }
`;
const WAYS = [['-r', 'cluster-rs/register'], ['--require=cluster-rs/register'], ['--import', 'cluster-rs/register'], ['--import=cluster-rs/register']];

for (const how of ['chdir', 'cwd']) {
  for (const way of WAYS) {
    test(`${way.join(' ')} with another working directory (${how}), on the command line`, ours, async () => {
      const run = await play({ files: { 'app.cjs': app }, entry: 'app.cjs', args: [how], execArgv: way });
      assert.deepEqual(run.all('primary'), [['function', way, null]]);
      assert.deepEqual(run.all('worker'), [['/', true, way, null, []]]);
      assert.deepEqual(run.all('exit'), [[0, true, way]]);
    });

    test(`${way.join(' ')} with another working directory (${how}), in NODE_OPTIONS`, ours, async () => {
      const NODE_OPTIONS = `--no-warnings  ${way.join(' ')} --title="a b"`;
      const run = await play({ files: { 'app.cjs': app }, entry: 'app.cjs', args: [how], env: { NODE_OPTIONS } });
      assert.deepEqual(run.all('worker'), [['/', true, [], NODE_OPTIONS, []]]);
      assert.equal(run.one('exit'), 0);
    });
  }
}

for (const [name, value, left] of [
  ['first', '$NODE_OPTIONS --no-warnings', '--no-warnings'], ['last', '--no-warnings $NODE_OPTIONS', '--no-warnings'],
  ['in the middle', '--no-warnings $NODE_OPTIONS --stack-trace-limit=7', '--no-warnings --stack-trace-limit=7'], ['alone', '$NODE_OPTIONS', null],
]) {
  test(`our preload is ${name} in what a wrapper makes of NODE_OPTIONS, and is taken out`, ours, async () => {
    const run = await play({
      files: {
        'wrap.sh': `#!/bin/sh\nNODE_OPTIONS="${value}" exec "$NODE" "$@"\n`,
        'app.cjs': `
          const { report } = require(process.env.SUPPORT + '/inside.cjs');
          report('worker', process.env.NODE_OPTIONS ?? null, require('node:cluster').engine);
          process.disconnect();`,
      },
      env: { NODE: process.execPath },
      async primary({ cluster, report, happens, directory }) {
        require('node:fs').chmodSync('wrap.sh', 0o755);
        process.execPath = `${directory}/wrap.sh`;
        cluster.setupPrimary({ exec: 'app.cjs' });
        report('exit', ...await happens(cluster.fork(), 'exit'));
      },
    });
    assert.deepEqual(run.all('worker'), [[left, 'cluster-rs']]);
    assert.deepEqual(run.all('exit'), [[0, null]]);
  });
}

test('the preload of Plug\'n\'Play, without which no package is found, comes before ours', ours, async () => {
  const NODE_OPTIONS = '--no-warnings --require "./a folder/.pnp.cjs" --stack-trace-limit=7';
  const run = await play({
    files: {
      'a folder/.pnp.cjs': `
        Object.defineProperty(process.versions, 'pnp', { value: '3' });
        globalThis.early = process.env.CL_CHANNEL_FD !== undefined;`,
    },
    env: { NODE_OPTIONS },
    async primary({ cluster, report, happens }) {
      report('exit', ...await happens(cluster.fork(), 'exit'));
    },
    worker({ cluster, report }) {
      report('worker', globalThis.early, cluster.engine, process.env.NODE_OPTIONS);
      process.disconnect();
    },
  });
  assert.deepEqual(run.all('worker'), [[true, 'cluster-rs', NODE_OPTIONS]]);
  assert.deepEqual(run.all('exit'), [[0, null]]);
});

const withFiles = { skip: ours.skip || (!parseEnv && 'this Node has no parseEnv') };
test('NODE_OPTIONS in a file of --env-file reach the workers of the command line', withFiles, async () => {
  const files = {
    '.env': 'NODE_OPTIONS="--stack-trace-limit=7 --require ./before.cjs"\nFOO=1\n', 'more.env': 'FOO=2\n',
    'before.cjs': 'globalThis.before = true;',
    'app.js': `
      const { NODE_OPTIONS, FOO } = process.env;
      const body = JSON.stringify({ NODE_OPTIONS, FOO, limit: Error.stackTraceLimit, before: globalThis.before });
      require('node:http').createServer((asked, answer) => answer.end(body)).listen(0, '127.0.0.1');`,
  };
  for (const options of [['--env-file=.env'], ['--env-file=.env', '--env-file=more.env']]) {
    const run = await cli({ args: ['-i', '2', ...options.flatMap((one) => ['--node-options', one]), 'app.js'], files }, async (started) => {
      const found = JSON.parse((await request(await started.port())).body);
      const FOO = options.length > 1 ? '2' : '1';
      assert.deepEqual(found, { NODE_OPTIONS: '--stack-trace-limit=7 --require ./before.cjs', FOO, limit: 7, before: true });
      started.kill();
    });
    assert.equal(run.code, 0);
    assert.equal(run.stderr, '');
  }
});
