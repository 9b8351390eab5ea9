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
  for (const all of ['max', '0']) assert.deepEqual(parse(['-i', all, 'x.js']).instances, { fewer: 0 });
  assert.deepEqual(parse(['-i', '-1', 'x.js']).instances, { fewer: 1 });
  assert.deepEqual(parse(['x.js']).instances, { fewer: 0 });
  const line = /^-i takes a number from 1 to 1024, max or 0, or -1 /;
  for (const bad of ['-0', '00', '1.5', '', 'all', '1e3', '0x2', ' 2', '1025', '9'.repeat(20), '--1', '+1', 'NaN']) {
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

test('the limits of --recycle have units, and several are one', ours, () => {
  const args = ['--recycle', 'rss=1.5G,age=90m', '--recycle=requests=7,jitter=0', '--parallel', '3', '--wait-ready', 'x.js'];
  const { recycle, parallel, waitReady } = parse(args);
  assert.deepEqual(recycle, { rss: 1.5 * 2 ** 30, age: 5_400_000, requests: 7, jitter: 0 });
  assert.deepEqual([parallel, waitReady], [3, true]);
  assert.deepEqual(parse(['--recycle', 'rss=400000,age=20,connections=3', 'x.js']).recycle, { rss: 400_000, age: 20_000, connections: 3 });
  assert.equal(parse(['x.js']).recycle, undefined);
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
    [['-i', 'many', 'server.js'], /^-i takes .*not "many" /],
    [['server.js', '-i'], /^-i needs a value /],
    [['--port', '80', 'server.js'], /^unknown option --port; .* --node-options /],
    [['-x', 'server.js'], /^unknown option -x; the script's own /],
    [['--instnaces', '2', 'server.js'], /^unknown option --instnaces; did you mean --instances\? \(the script's own go after --, /],
    [['--Polcy=rr', 'server.js'], /^unknown option --Polcy; did you mean --policy\? /],
    [['--stop', '3', 'server.js'], /^unknown option --stop; did you mean --stop-deadline\? /],
    [['--stats-', 'server.js'], /; did you mean --stats\? /],
    [['--node-args', '-r x', 'server.js'], /^unknown option --node-args; did you mean --node-options\? /],
    [[`--${'x'.repeat(100_000)}`, 'server.js'], /; the script's own go after --/],
    [['--constructor', 'server.js'], /^unknown option --constructor; /],
    [['server.js', '8080'], /^the script is server\.js already; its own arguments, such as 8080, go after -- /],
    [['--parallel', '0', 'server.js'], /^--parallel takes a number from 1 to 1024, not "0" /],
    [['--wait-ready=yes', 'server.js'], /^--wait-ready takes no value /],
    [['--recycle', 'rss', 'server.js'], /^--recycle takes limits such as rss=400M,age=24h, not "rss" /],
    [['--recycle', 'rss=400M,request=5', 'server.js'], /^--recycle has no limit "request"; did you mean requests=\? /],
    [['--recycle', 'memory=4G', 'server.js'], /^--recycle has no limit "memory"; did you mean rss=\? /],
    [['--recycle', 'x=1', 'server.js'], /^--recycle has no limit "x"; there are rss=, requests=, connections=, age= and jitter= /],
    [['--recycle', 'rss=much', 'server.js'], /^--recycle takes as rss an amount of memory such as 400M or 1\.5G, not "much" /],
    [['--recycle', 'age=2w', 'server.js'], /^--recycle takes as age a time such as 24h, 90m or 7d, not "2w" /],
    [['--recycle', 'requests=0', 'server.js'], /^--recycle takes as requests a number from 1, not "0" /],
    [['--recycle', 'jitter=20', 'server.js'], /^--recycle takes a limit beside jitter, such as rss=400M /],
    [['--max-memory-restart', '300M', 'server.js'], /^unknown option --max-memory-restart; did you mean --recycle\? /],
    [['--mechanism', 'fast', 'server.js'], /^--mechanism takes auto, passed, kernel or rotation, not "fast" /],
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
  for (const name of ['nothing.js', 'nothing/', './server.mjs']) {
    const run = await cli({ args: [name] });
    assert.deepEqual(run.said(), [`no such file: ${path.resolve(run.directory, name)}`]);
    assert.equal(run.stdout, '');
    assert.equal(run.code, 1);
  }
});

test('what is no program is told as what it is, with what to do', ours, async () => {
  const files = { 'folder/readme.txt': '', 'broken/package.json': '{ "main": "gone.js" }' };
  for (const [name, line] of [
    ['folder', /\/folder is a directory without an index\.js, .*; give the file of the program$/],
    ['folder/', /\/folder is a directory without /],
    ['broken', /\/broken is a directory without /],
    ['http://127.0.0.1:3000/', /^http:\/\/127\.0\.0\.1:3000\/ is a URL; .*path of its file$/],
    ['file:///srv/a%20b/server.js', /is a URL; give its path: \/srv\/a b\/server\.js$/],
  ]) {
    const run = await cli({ args: [name], files });
    assert.equal(run.said().length, 1, run.stderr);
    assert.match(run.said()[0], line);
    assert.deepEqual([run.stdout, run.code], ['', 1]);
  }
});

test('the word start may be there, as with pm2', ours, async () => {
  assert.equal(parse(['start', '-i', '2', 'x.js']).script, 'x.js');
  assert.equal(parse(['-i', '2', 'start', 'x.js', '--', 'y']).script, 'x.js');
  // Alone it is the script's name.
  assert.equal(parse(['start']).script, 'start');
  assert.equal(parse(['./start', '--', 'x.js']).script, './start');
  assert.throws(() => parse(['start', 'x.js', 'y.js']), { exitCode: 2, message: /^the script is x\.js already/ });
});

test('pm2\'s file of programs is answered with the commands that do the same', ours, async () => {
  const app = `{ name: 'web', script: 'server.js', instances: 'max', exec_mode: 'cluster', env: { NODE_ENV: 'production', MOTTO: "it's" },
    args: ['--port', '80'], node_args: '--max-old-space-size=300', kill_timeout: 3000, autorestart: false, watch: true }`;
  const command = "NODE_ENV=production MOTTO='it'\\''s' cluster-rs -i max --stop-deadline 3000ms --node-options --max-old-space-size=300 " +
    '--respawn never server.js -- --port 80 (not here: watch)';
  for (const [name, text] of [
    ['ecosystem.config.js', `module.exports = { apps: [${app}] };`], ['ecosystem.config.cjs', `module.exports = { apps: [${app}] };`],
    ['ecosystem.config.mjs', `export default { apps: [${app}] };`],
  ]) {
    for (const args of [[name], ['start', name]]) {
      const run = await cli({ args, files: { [name]: text } });
      assert.deepEqual(run.said(), [`${name} is a file of pm2's, and no program; the same here: ${command}`]);
      assert.deepEqual([run.stdout, run.code], ['', 2]);
    }
  }
  const two = await cli({
    args: ['ecosystem.config.json'], files: { 'ecosystem.config.json': '{ "apps": [{ "script": "a.js", "instances": 0 }, { "script": "b c.js", "cwd": "/srv" }] }' },
  });
  assert.match(two.stderr, /; the same here:\n {2}cluster-rs -i 0 a\.js\n {2}cd \/srv && cluster-rs -i 1 'b c\.js'\n$/);
  for (const text of ['{ "script": "a.js" }', '[{ "script": "a.js" }]', '{ "apps": { "script": "a.js" } }']) {
    const other = await cli({ args: ['start', 'ecosystem.json'], files: { 'ecosystem.json': text } });
    assert.equal(other.stderr, "cluster-rs: ecosystem.json is a file of pm2's, and no program; the same here: cluster-rs -i 1 a.js\n");
  }
  const missing = await cli({ args: ['ecosystem.config.js'] });
  assert.match(missing.stderr, /^cluster-rs: no such file: .*\/ecosystem\.config\.js\n$/);
  const broken = await cli({ args: ['ecosystem.config.js'], files: { 'ecosystem.config.js': 'module.exports = {' } });
  assert.match(broken.stderr, /^cluster-rs: ecosystem\.config\.js is a file of pm2's, and no program; it cannot be read: .*\n$/);
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
