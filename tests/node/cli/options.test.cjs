'use strict';
// The command line itself: what it understands, and what it says when it does not.

const test = require('node:test');
const assert = require('node:assert/strict');
const path = require('node:path');
const { ours, request } = require('../support/index.cjs');
const { cli } = require('./fixtures/run.cjs');

const { parse } = require('../../../node-addon/lib/cli/options.cjs');
const { duration, instances, words } = require('../../../node-addon/lib/cli/values.cjs');
const { version } = require('../../../node-addon/package.json');

/** The one line and the exit code that a command line gives. */
async function complaint(...args) {
  const run = await cli({ args });
  assert.equal(run.stdout, '');
  assert.equal(run.stderr.split('\n').length, 2, run.stderr);
  return [run.code, run.said()[0]];
}

test('the number of instances in each of its forms', ours, () => {
  for (const args of [['-i', '3'], ['-i3'], ['-i=3'], ['--instances', '3'], ['--instances=3']]) {
    assert.deepEqual(parse([...args, 'x.js']).instances, { count: 3 });
  }
  assert.deepEqual(parse(['-i', 'max', 'x.js']).instances, { fewer: 0 });
  assert.deepEqual(parse(['-i', '-1', 'x.js']).instances, { fewer: 1 });
  assert.deepEqual(parse(['x.js']).instances, { fewer: 0 });
  const line = /^-i takes a number from 1 to 1024, max, or -1 /;
  for (const bad of ['0', '-0', '1.5', '', 'all', '1e3', '0x2', ' 2', '1025', '9'.repeat(20), '--1', '+1', 'NaN']) {
    assert.throws(() => instances('-i', bad), { exitCode: 2, message: line }, bad);
  }
});

test('times have units and limits', ours, () => {
  assert.deepEqual(['30', '1.5', '2s', '500ms', '2m', '0'].map((text) => duration('--x', text)),
    [30_000, 1500, 2000, 500, 120_000, 0]);
  for (const bad of ['', '-1', 'x', '1h', '1 s', 'Infinity', '1e3', '99999999m']) {
    assert.throws(() => duration('--x', bad), { exitCode: 2, message: /^--x takes a time such as/ }, bad);
  }
  assert.throws(() => parse(['--listen-timeout', '0', 'x.js']), { exitCode: 2 });
  assert.equal(parse(['--stop-deadline', '0', 'x.js']).stopDeadline, 0);
});

test('node options are split as Node splits NODE_OPTIONS', ours, () => {
  assert.deepEqual(words('--node-options', '--require  ./a.cjs "--title=a b" --x="c\\"d\\\\" ""'),
    ['--require', './a.cjs', '--title=a b', '--x=c"d\\', '']);
  assert.deepEqual(words('--node-options', ''), []);
  assert.throws(() => words('--node-options', '"a'), { exitCode: 2, message: /closing/ });
  const { nodeOptions } = parse(['--node-options', '-r a', 'x.js', '--node-options=-r b']);
  assert.deepEqual(nodeOptions, ['-r', 'a', '-r', 'b']);
});

test('options stand before or after the script, its own arguments behind --', ours, () => {
  const options = parse(['--policy', 'none', 'x.js', '--stats', '-i2', '--', '-i', '9', '--', 'y']);
  assert.equal(options.script, 'x.js');
  assert.equal(options.policy, 'none');
  assert.equal(options.stats, true);
  assert.deepEqual(options.instances, { count: 2 });
  assert.deepEqual(options.args, ['-i', '9', '--', 'y']);
  assert.equal(parse(['--stats=2', 'x.js']).stats, 2000);
});

test('a wrong command line is one line on standard error and exit code 2', ours, async () => {
  for (const [args, line] of [
    [[], /^no script was given /],
    [['--', 'server.js'], /^no script was given /],
    [['-i', '0', 'server.js'], /^-i takes .*not "0" /],
    [['-i', 'many', 'server.js'], /^-i takes .*not "many" /],
    [['server.js', '-i'], /^-i needs a value /],
    [['--port', '80', 'server.js'], /^unknown option --port; .* --node-options /],
    [['-x', 'server.js'], /^unknown option -x; /],
    [['--constructor', 'server.js'], /^unknown option --constructor; /],
    [['server.js', '8080'], /^the script is server\.js already; its own arguments, such as 8080, go after -- /],
    [['--mechanism', 'fast', 'server.js'], /^--mechanism takes auto, passed or kernel, not "fast" /],
    [['--policy', 'best', 'server.js'], /^--policy takes rr, none, least-loaded or source-hash, not "best" /],
    [['--respawn', 'maybe', 'server.js'], /^--respawn takes always, on-failure or never, not "maybe" /],
    [['--stop-deadline', 'soon', 'server.js'], /^--stop-deadline takes a time /],
    [['--listen-timeout', '-5', 'server.js'], /^--listen-timeout takes a time /],
    [['--stats=x', 'server.js'], /^--stats takes a time /],
    [['--help=yes'], /^--help takes no value /],
    [['--node-options', '"x', 'server.js'], /^--node-options has an opening quote /],
  ]) {
    const [code, said] = await complaint(...args);
    assert.match(said, line);
    assert.match(said, /\(cluster-rs --help shows what there is\)$/);
    assert.equal(code, 2);
  }
});

test('--policy source-hash: a client meets the same worker', ours, async () => {
  const run = await cli({
    args: ['-i', '3', '--policy', 'source-hash', 'app.js'], files: {
      'app.js': `require('node:http').createServer((asked, answer) => answer.end(String(process.pid))).listen(0, '127.0.0.1');`,
    },
  }, async (started) => {
    const port = await started.port();
    const owners = [];
    for (let host = 2; host < 32; host++) {
      const localAddress = `127.0.0.${host}`;
      const { body } = await request(port, { localAddress });
      owners.push(body);
      for (let again = 0; again < 2; again++) assert.equal((await request(port, { localAddress })).body, body);
    }
    assert.equal(new Set(owners).size, 3);
    started.kill();
  });
  assert.equal(run.code, 0);
});

test('a file that is not there is one line and exit code 1', ours, async () => {
  for (const name of ['nothing.js', 'folder/', './server.mjs']) {
    const run = await cli({ args: [name], files: { 'folder/readme.txt': '' } });
    assert.deepEqual(run.said(), [`no such file: ${path.resolve(run.directory, name)}`]);
    assert.equal(run.stdout, '');
    assert.equal(run.code, 1);
  }
});

test('--help and --version answer on standard output', ours, async () => {
  for (const args of [['--help'], ['-h'], ['-i', '2', '--help', 'nothing.js']]) {
    const help = await cli({ args });
    assert.equal(help.code, 0);
    assert.equal(help.stderr, '');
    assert.match(help.stdout, /^usage: cluster-rs \[options\] script \[-- arguments/);
    assert.match(help.stdout, /max is [0-9]+ here: [0-9]+ CPUs? by affinity/);
    for (const line of help.stdout.split('\n')) assert.ok(line.length <= 110, line);
  }
  for (const option of ['--version', '-v']) {
    const run = await cli({ args: [option] });
    assert.deepEqual([run.code, run.stdout, run.stderr], [0, `${version}\n`, '']);
  }
});

test('the command that npm installs is this one', ours, async () => {
  const installed = path.join(__dirname, '..', 'node_modules', '.bin', 'cluster-rs');
  const run = await cli({ args: ['--version'], command: ([, , ...args]) => [installed, ...args] });
  assert.deepEqual([run.code, run.stdout, run.stderr], [0, `${version}\n`, '']);
});

test('inside a worker of a cluster it does not start', ours, async () => {
  const outer = "const c = require('node:cluster'); c.setupPrimary({ exec: process.argv[2], args: ['server.js'] });" +
    "c.fork().on('exit', (code) => process.exit(code));";
  const run = await cli({
    command: ([node, bin]) => [node, 'outer.js', bin], files: { 'outer.js': outer },
  });
  assert.deepEqual(run.said(), ['cluster-rs cannot run inside a worker of a cluster']);
  assert.equal(run.code, 1);
});
