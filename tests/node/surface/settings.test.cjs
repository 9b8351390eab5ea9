'use strict';
// cluster.settings: the defaults, how they accumulate, and what of them reaches a worker.

const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { play } = require('../support/index.cjs');

test('settings accumulate: defaults, then what was set before, then the new options', async () => {
  const run = await play({
    args: ['--one', 'two'],
    execArgv: ['--no-warnings'],
    primary({ cluster, report }) {
      report('before', cluster.settings);
      cluster.setupPrimary();
      const first = cluster.settings;
      report('defaults', first, first.execArgv === process.execArgv);
      cluster.setupPrimary({ args: ['three'], silent: true, unknown: 'kept' });
      report('second', cluster.settings, first !== cluster.settings, first.silent);
      cluster.setupMaster({ exec: '/some/where.js', cwd: '/' });
      report('third', cluster.settings);
      cluster.settings.args = ['by hand'];
      cluster.setupPrimary({ silent: false });
      report('fourth', cluster.settings);
    },
  });
  const { exec } = run.one('defaults');
  const defaults = { args: ['--one', 'two'], exec, execArgv: ['--no-warnings'], silent: false };
  assert.deepEqual(run.one('before'), {});
  assert.match(defaults.exec, /\/scenario\.cjs$/);
  assert.deepEqual(run.all('defaults'), [[defaults, true]]);
  assert.deepEqual(run.all('second'), [[{ ...defaults, args: ['three'], silent: true, unknown: 'kept' }, true, false]]);
  const third = { ...defaults, args: ['three'], silent: true, unknown: 'kept', exec: '/some/where.js', cwd: '/' };
  assert.deepEqual(run.one('third'), third);
  assert.deepEqual(run.one('fourth'), { ...third, args: ['by hand'], silent: false });
});

test('every setupPrimary emits setup with its settings in the next tick, and so does fork', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      cluster.on('setup', (settings) => report('setup', settings.args, settings === cluster.settings));
      cluster.setupPrimary({ args: ['1'] });
      cluster.setupPrimary({ args: ['2'] });
      report('in the same tick');
      process.nextTick(() => report('after the tick'));
      await new Promise((resolve) => setImmediate(resolve));
      const worker = cluster.fork();
      report('forked', Object.keys(cluster.settings));
      await new Promise((resolve) => setImmediate(resolve));
      report('settings after the fork', Object.keys(cluster.settings), cluster.settings.stdio === undefined);
      await happens(worker, 'exit');
    },
    worker: () => process.disconnect(),
  });
  const names = run.reports.map(({ name }) => name);
  assert.deepEqual(names.slice(0, 6), ['in the same tick', 'setup', 'setup', 'after the tick', 'forked', 'setup']);
  assert.deepEqual(run.all('setup'), [[['1'], false], [['2'], true], [['2'], true]]);
  assert.deepEqual(run.all('settings after the fork'), [[['args', 'exec', 'execArgv', 'silent'], true]]);
});

test('the settings of the moment of the fork make the worker', async () => {
  const script = `
    const { report } = require(process.env.SUPPORT + '/inside.cjs');
    report('worker', process.argv.slice(2), process.execArgv, process.cwd(), require('path').basename(__filename));
    process.disconnect();
  `;
  const run = await play({
    files: { 'one.cjs': script, 'two.cjs': script, 'there/three.cjs': script },
    args: ['inherited'],
    execArgv: ['--no-warnings'],
    async primary({ cluster, report, happens, directory }) {
      const spawned = ({ process: { spawnfile, spawnargs } }) => {
        report('spawned', spawnfile === process.execPath, spawnargs.slice(1));
      };
      cluster.setupPrimary({ exec: 'one.cjs' });
      const one = cluster.fork();
      cluster.setupPrimary({ exec: 'two.cjs', args: ['a', 'b c'], execArgv: ['--stack-trace-limit=5'] });
      spawned(one);
      await happens(one, 'exit');
      const two = cluster.fork();
      spawned(two);
      await happens(two, 'exit');
      cluster.setupPrimary({ exec: 'three.cjs', cwd: `${directory}/there`, args: [], execArgv: [] });
      await happens(cluster.fork(), 'exit');
    },
  });
  const { directory } = run;
  assert.deepEqual(run.all('worker'), [
    [['inherited'], ['--no-warnings'], directory, 'one.cjs'],
    [['a', 'b c'], ['--stack-trace-limit=5'], directory, 'two.cjs'],
    [[], [], path.join(directory, 'there'), 'three.cjs'],
  ]);
  assert.deepEqual(run.all('spawned'), [
    [true, ['--no-warnings', 'one.cjs', 'inherited']],
    [true, ['--stack-trace-limit=5', 'two.cjs', 'a', 'b c']],
  ]);
});

test('env belongs to a fork: over the primary\'s own, as strings, and to no other fork', async () => {
  const run = await play({
    env: { FROM_THE_START: 'yes' },
    async primary({ cluster, happens }) {
      process.env.SET_LATER = 'yes';
      await happens(cluster.fork({ MINE: 1, FROM_THE_START: 'changed', GONE: undefined }), 'exit');
      await happens(cluster.fork(), 'exit');
    },
    worker({ report }) {
      const { MINE, FROM_THE_START, SET_LATER, GONE } = process.env;
      report('env', MINE ?? null, FROM_THE_START, SET_LATER, GONE ?? null);
      process.disconnect();
    },
  });
  assert.deepEqual(run.all('env'), [['1', 'changed', 'yes', null], [null, 'yes', 'yes', null]]);
});

test('silent: the worker\'s output goes to streams of the worker object and nowhere else', async () => {
  const run = await play({
    async primary({ cluster, report, happens, deadline }) {
      const output = async (worker) => {
        let text = '';
        const streams = [worker.process.stdout, worker.process.stderr];
        for (const stream of streams) stream.on('data', (data) => { text += data; });
        const ends = streams.map((stream) => new Promise((resolve) => stream.on('close', resolve)));
        await deadline(Promise.all(ends), 'the end of the output');
        return text;
      };
      const loud = cluster.fork({ WORD: 'loud' });
      report('loud', loud.process.stdout, loud.process.stderr, loud.process.stdin);
      await happens(loud, 'exit');
      cluster.setupPrimary({ silent: true });
      const silent = cluster.fork({ WORD: 'silent' });
      report('silent', await output(silent));
      // stdio overrides silent.
      cluster.setupPrimary({ stdio: ['ignore', 'pipe', 'inherit', 'ipc'] });
      const mixed = cluster.fork({ WORD: 'mixed' });
      report('mixed', mixed.process.stderr, mixed.process.stdin);
      let text = '';
      mixed.process.stdout.on('data', (data) => { text += data; });
      await happens(mixed.process.stdout, 'close');
      report('mixed text', text);
      report('the settings', cluster.settings.stdio);
    },
    worker() {
      process.stdout.write(`${process.env.WORD} out\n`);
      process.stderr.write(`${process.env.WORD} err\n`);
      process.disconnect();
    },
  });
  assert.deepEqual(run.all('loud'), [[null, null, null]]);
  assert.deepEqual(run.one('silent').split('\n').sort(), ['', 'silent err', 'silent out']);
  assert.deepEqual(run.all('mixed'), [[null, null]]);
  assert.equal(run.one('mixed text'), 'mixed out\n');
  assert.deepEqual(run.one('the settings'), ['ignore', 'pipe', 'inherit', 'ipc']);
  assert.equal(run.stdout, 'loud out\n');
  assert.equal(run.stderr, 'loud err\nmixed err\n');
});

test('stdio keeps the places of the descriptors that the program passes on', async () => {
  const run = await play({
    async primary({ cluster, report, happens, directory }) {
      const file = require('node:fs').openSync(`${directory}/written`, 'w');
      cluster.setupPrimary({ stdio: ['inherit', 'inherit', 'inherit', file, 'ipc', 'pipe'] });
      const worker = cluster.fork();
      const piped = worker.process.stdio[5];
      piped.end('through the pipe');
      report('places', worker.process.stdio[3], worker.process.stdio[4] ?? null);
      await happens(worker, 'exit');
      require('node:fs').closeSync(file);
      report('file', require('node:fs').readFileSync(`${directory}/written`, 'utf8'));
    },
    worker({ report }) {
      const fs = require('node:fs');
      fs.writeSync(3, 'through the file');
      report('pipe', fs.readFileSync(5, 'utf8'));
      process.disconnect();
    },
  });
  assert.deepEqual(run.all('places'), [[null, null]]);
  assert.equal(run.one('pipe'), 'through the pipe');
  assert.equal(run.one('file'), 'through the file');
});

test('stdio as a word, and stdio without ipc, are what they are for child_process.fork', async () => {
  const run = await play({
    async primary({ cluster, report, plain, happens }) {
      for (const stdio of [['pipe', 'pipe', 'pipe'], 'nonsense']) {
        cluster.setupPrimary({ stdio });
        try {
          cluster.fork();
          report('thrown', null);
        } catch (error) {
          report('thrown', plain(error).name, error.code);
        }
        report('workers', Object.keys(cluster.workers).length);
      }
      cluster.setupPrimary({ stdio: 'ignore' });
      const worker = cluster.fork();
      report('ignored', worker.process.stdout, worker.id);
      await happens(worker, 'exit');
      cluster.setupPrimary({ stdio: 'inherit' });
      await happens(cluster.fork(), 'exit');
    },
    worker() {
      console.log('heard');
      process.disconnect();
    },
  });
  assert.deepEqual(run.all('thrown'),
    [['Error', 'ERR_CHILD_PROCESS_IPC_REQUIRED'], ['TypeError', 'ERR_INVALID_ARG_VALUE']]);
  assert.deepEqual(run.all('workers'), [[0], [0]]);
  assert.deepEqual(run.all('ignored'), [[null, 3]]);
  assert.equal(run.stdout, 'heard\n');
});

test('--prof gives each worker a log file of its own', async () => {
  const run = await play({
    primary({ cluster, report }) {
      cluster.setupPrimary({ execArgv: ['--prof', '--no-warnings'] });
      report('added', cluster.settings.execArgv);
      cluster.setupPrimary({ execArgv: ['--prof', '--logfile=mine.log'] });
      report('kept', cluster.settings.execArgv);
    },
  });
  assert.deepEqual(run.one('added'), ['--prof', '--no-warnings', '--logfile=v8-%p.log']);
  assert.deepEqual(run.one('kept'), ['--prof', '--logfile=mine.log']);
});

test('serialization advanced carries what JSON cannot, and the default does not', async () => {
  const run = await play({
    async primary({ cluster, report, happens, request }) {
      const describe = (value) => [value.map instanceof Map, value.date instanceof Date, typeof value.big];
      for (const serialization of ['json', 'advanced']) {
        cluster.setupPrimary({ serialization });
        const worker = cluster.fork({ SERIALIZATION: serialization });
        const listening = happens(worker, 'listening');
        const [message] = await happens(worker, 'message');
        report('primary', serialization, serialization === 'json' ? message : describe(message));
        worker.send(serialization === 'json' ? { date: new Date(0) } : { map: new Map(), date: new Date(0), big: 1n });
        const [{ port }] = await listening;
        report('served', (await request(port)).body);
        worker.disconnect();
        await happens(worker, 'exit');
      }
    },
    worker({ report }) {
      const advanced = process.env.SERIALIZATION === 'advanced';
      process.send(advanced ? { map: new Map([[1, 2]]), date: new Date(0), big: 10n } : { date: new Date(0) });
      process.once('message', (value) => {
        report('worker', advanced ? [value.map instanceof Map, value.date instanceof Date, typeof value.big] : value);
        require('node:http').createServer((asked, answer) => answer.end(process.env.SERIALIZATION)).listen(0);
      });
    },
  });
  const date = new Date(0).toJSON();
  assert.deepEqual(run.all('primary'), [['json', { date }], ['advanced', [true, true, 'bigint']]]);
  assert.deepEqual(run.all('worker'), [[{ date }], [[true, true, 'bigint']]]);
  assert.deepEqual(run.all('served'), [['json'], ['advanced']]);
});

const canBeRead = () => {
  const { status } = require('node:child_process').spawnSync(process.execPath, ['-e',
    `require(${JSON.stringify(path.join(__dirname, '../support/inside.cjs'))})`], { uid: 65534, gid: 65534, cwd: '/' });
  return status === 0 && fs.existsSync('/proc/self/status');
};
const notRoot = process.getuid() !== 0 && 'only root may';
const asRoot = { skip: notRoot || (!canBeRead() && 'another user cannot read this folder') };

test('uid and gid: the worker runs as another user and serves', asRoot, async () => {
  const run = await play({
    async primary({ cluster, report, happens, request }) {
      cluster.setupPrimary({ uid: 65534, gid: 65533 });
      const worker = cluster.fork();
      const [{ port }] = await happens(worker, 'listening');
      report('answer', (await request(port)).body);
      worker.disconnect();
      report('exit', ...await happens(worker, 'exit'));
      report('primary', process.getuid(), process.getgid());
    },
    worker() {
      const who = `${process.getuid()}:${process.getgid()}`;
      require('node:http').createServer((asked, answer) => answer.end(who)).listen(0);
    },
  });
  assert.equal(run.one('answer'), '65534:65533');
  assert.deepEqual(run.all('exit'), [[0, null]]);
  assert.deepEqual(run.all('primary'), [[0, process.getgid()]]);
});
