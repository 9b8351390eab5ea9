'use strict';
// A Node primary: workers behind a package runner, which passes its place on, and so also workers in C and Rust.

const path = require('node:path');

// The scenarios require the package in the checkout, whatever is installed for other tests.
process.env.CLUSTER_MODULE = path.join(__dirname, '../../node-addon');

const test = require('node:test');
const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const {
  LANGUAGES, WORKERS, holdBy, inTurns, isAlive, play, until, untilText, whoAnswers,
} = require('./support.cjs');

function findNpm() {
  try {
    const found = fs.realpathSync(execFileSync('sh', ['-c', 'command -v npm'], { encoding: 'utf8' }).trim());
    return /\.c?js$/.test(found) ? found : undefined;
  } catch {
    return undefined;
  }
}

const npm = findNpm();
const withNpm = { skip: npm === undefined && 'npm is missing, or no script' };

const SERVER = `
'use strict';
const { worker } = require('node:cluster');
require('node:net').createServer((socket) => {
  socket.end(\`node \${worker.id} \${worker.slot} \${process.pid}\\n\`);
  socket.resume();
}).listen(0, '127.0.0.1');
`;

// A runner under the name of one: it starts its one argument through a shell and ends as that does.
const RUNNER = `
'use strict';
const { spawn } = require('node:child_process');
spawn(process.argv[2], { shell: true, stdio: 'inherit' }).on('exit', (code, signal) => {
  process.exit(code ?? (signal ? 1 : 0));
});
`;

const quoted = (words) => words.map((word) => `'${word}'`).join(' ');
// The Node that runs the tests, not the one in PATH.
const inNode = `'${process.execPath}' server.cjs`;
const workerIn = (language) => `exec ${quoted([...WORKERS[language], '127.0.0.1:0'])}`;

// The whole of a scenario: `data.starts` are the workers, one after another, as settings for the primary. It reports
// who listens and who ends, does what it is told, and in the end disconnects everybody.
async function primary({ cluster, report, told, happens, data, directory }) {
  cluster.on('exit', ({ id }, code, signal) => report('exit', id, code, signal));
  cluster.on('online', ({ id }) => report('online', id));
  for (const settings of data.starts) {
    cluster.setupPrimary(JSON.parse(JSON.stringify(settings).replaceAll('DIRECTORY', directory)));
    const worker = cluster.fork(data.env);
    const [address] = await happens(worker, 'listening');
    report('listening', worker.id, worker.slot, worker.process.pid, address, worker.state);
  }
  report('ready');
  if (data.block) {
    await told('block');
    report('blocking');
    // Holds the JavaScript of the primary up until somebody opens the pipe for writing.
    require('node:fs').readFileSync(data.block);
  }
  await told('end');
  report('stats', cluster.stats());
  cluster.disconnect(() => report('gone', Object.keys(cluster.workers).length));
}

const QUIET = { npm_config_update_notifier: 'false', npm_config_logs_max: '0', npm_config_cache: '/dev/null/none' };
const env = { ...QUIET, LD_LIBRARY_PATH: process.env.INTEROP_LIBRARY, CL_MECHANISM: 'passed' };

const behindRunner = (language) => ({ exec: 'DIRECTORY/npm-cli.js', args: [workerIn(language)] });
const packageOf = (scripts) => JSON.stringify({ name: 'served', private: true, scripts });
const npmStart = (script) => ({ exec: npm, args: ['run', '--silent', script] });

// The first is worker 1, and so on.
const idsOf = (starts) => starts.map((_, i) => i + 1);
const portOf = (run) => run.all('listening')[0][3].port;

test('npm start: the script is the worker, beside workers of Node, C and Rust in exact turns', withNpm, async () => {
  const scripts = { start: inNode, c: workerIn('c'), header: workerIn('header'), rust: workerIn('rust') };
  const files = { 'package.json': packageOf(scripts), 'server.cjs': SERVER };
  const starts = [npmStart('start'), npmStart('c'), npmStart('header'), npmStart('rust'),
    { exec: 'DIRECTORY/server.cjs', args: [] }];
  const run = await play({ primary, files, env, data: { starts }, commands: true }, async (running) => {
    await running.next('ready');
    const listening = running.all('listening');
    for (const [i, [id, slot, , , state]] of listening.entries()) {
      assert.deepEqual([id, slot, state], [i + 1, i, 'listening']);
    }
    const port = portOf(running);
    for (const [, , , address] of listening) {
      assert.deepEqual(address, { addressType: 4, address: '127.0.0.1', port }); // fd: undefined is no JSON.
    }
    for (const { id, slot, language, pid } of await inTurns(port, idsOf(starts), 100)) {
      assert.equal(language, ['node', 'c', 'header', 'rust', 'node'][id - 1]);
      assert.equal(slot, id - 1);
      // The worker's own process is the runner's.
      assert.equal(pid === listening[id - 1][2], id === 5);
    }
    running.tell('end');
  });
  assert.deepEqual(run.all('exit').sort(), starts.map((_, i) => [i + 1, 0, null]));
  assert.equal(run.one('gone'), 0);
  const { workers, addresses } = run.one('stats');
  for (const { delivered } of workers) assert.ok(delivered >= 20);
  assert.equal(addresses.length, 1);
  assert.ok(addresses[0].accepted >= 100);
});

for (const name of ['yarn.js', 'pnpm.cjs', 'npx-cli.js', 'corepack.js']) {
  test(`${name} is known as a runner`, async () => {
    const files = { [name]: RUNNER, 'server.cjs': SERVER };
    const starts = [{ exec: `DIRECTORY/${name}`, args: [inNode] }, { exec: 'DIRECTORY/server.cjs', args: [] }];
    const run = await play({ primary, files, env, data: { starts }, commands: true }, async (running) => {
      await running.next('ready');
      await inTurns(portOf(running), [1, 2], 20);
      running.tell('end');
    });
    assert.deepEqual(run.all('exit').sort(), [[1, 0, null], [2, 0, null]]);
  });
}

for (const language of LANGUAGES) {
  test(`a killed worker in ${language} behind a runner: a Node worker answers what it had not taken`, async () => {
    const files = { 'npm-cli.js': RUNNER, 'server.cjs': SERVER };
    const starts = [behindRunner(language), { exec: 'DIRECTORY/server.cjs', args: [] }];
    const run = await play({ primary, files, env, data: { starts }, commands: true }, async (running) => {
      await running.next('ready');
      const port = portOf(running);
      const pipe = `${running.directory}/pipe`;
      execFileSync('mkfifo', [pipe]);
      const held = await holdBy(port, 1);
      held.socket.write(`block ${pipe}\n`);
      await untilText(held.socket, /blocked\n/, 'the word that it is blocked');
      const answers = Array.from({ length: 20 }, () => whoAnswers(port));
      process.kill(held.pid, 'SIGKILL');
      for (const { id } of await Promise.all(answers)) assert.equal(id, 2);
      await held.all;
      await running.next('exit');
      await inTurns(port, [2], 4);
      running.tell('end');
    });
    assert.deepEqual(run.all('exit'), [[1, 1, null], [2, 0, null]]);
  });
}

test('a killed runner takes its script along, and others answer', async () => {
  const files = { 'npm-cli.js': RUNNER, 'server.cjs': SERVER };
  const starts = [
    ...LANGUAGES.map((language) => behindRunner(language)),
    { exec: 'DIRECTORY/server.cjs', args: [] },
  ];
  await play({ primary, files, env, data: { starts }, commands: true }, async (running) => {
    await running.next('ready');
    const port = portOf(running);
    const pids = new Map((await inTurns(port, idsOf(starts), starts.length)).map(({ id, pid }) => [id, pid]));
    for (const [id, , runner] of running.all('listening').slice(0, LANGUAGES.length)) {
      process.kill(runner, 'SIGKILL');
      await until(() => !isAlive(pids.get(id)), `the end of the script of worker ${id}`);
      const answers = await Promise.all(Array.from({ length: 10 }, () => whoAnswers(port)));
      assert.ok(!answers.some((one) => one.id <= id));
    }
    running.tell('end');
  });
});

test('the death of a Node primary takes workers behind runners along', async () => {
  const files = { 'npm-cli.js': RUNNER, 'server.cjs': SERVER };
  const starts = LANGUAGES.map((language) => behindRunner(language));
  await play({ primary, files, env, data: { starts }, commands: true, exit: 'SIGKILL' }, async (running) => {
    await running.next('ready');
    const pids = (await inTurns(portOf(running), idsOf(starts), starts.length)).map(({ pid }) => pid);
    assert.equal(new Set(pids).size, starts.length);
    running.kill('SIGKILL');
    await until(() => !pids.some(isAlive), 'the end of all scripts');
  });
});

test('while the JavaScript of a Node primary is held up, workers of all languages are given connections', async () => {
  const files = { 'npm-cli.js': RUNNER, 'server.cjs': SERVER };
  const starts = [
    ...LANGUAGES.map((language) => behindRunner(language)),
    { exec: 'DIRECTORY/server.cjs', args: [] },
  ];
  await play({ primary, files, env, data: { starts, block: 'pipe' }, commands: true }, async (running) => {
    await running.next('ready');
    execFileSync('mkfifo', [`${running.directory}/pipe`]);
    running.tell('block');
    await running.next('blocking');
    await inTurns(portOf(running), idsOf(starts), 50);
    fs.writeFileSync(`${running.directory}/pipe`, '');
    running.tell('end');
  });
});

test('the script of a runner finds nothing of how it was started, once it listens', async () => {
  const files = {
    'npm-cli.js': RUNNER,
    // Until it listens it may be a wrapper itself; a client finds it listening.
    'server.cjs': `
const { Server } = require('node:net');
const { emit } = Server.prototype;
Server.prototype.emit = function look(name, ...rest) {
  if (name === 'connection') note();
  return emit.call(this, name, ...rest);
};
const ours = /^(CL_(?!MECHANISM$)|CLUSTER_RS_|NODE_(OPTIONS|UNIQUE_ID|CHANNEL))/;
function note() {
  const names = Object.keys(process.env).filter((name) => ours.test(name));
  require('node:fs').writeFileSync('seen.json', JSON.stringify({ names, worker: require('node:cluster').isWorker }));
}
${SERVER}`,
  };
  const starts = [{ exec: 'DIRECTORY/npm-cli.js', args: [inNode] }];
  await play({ primary, files, env, data: { starts }, commands: true }, async (running) => {
    await running.next('ready');
    assert.equal((await whoAnswers(portOf(running))).id, 1);
    const seen = JSON.parse(fs.readFileSync(`${running.directory}/seen.json`, 'utf8'));
    assert.deepEqual(seen, { names: [], worker: true });
    running.tell('end');
  });
});
