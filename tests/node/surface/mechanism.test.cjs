'use strict';
// The setting `mechanism`: how connections reach the workers.

const test = require('node:test');
const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const { hasKernel, ours, play } = require('../support/index.cjs');
const { cli } = require('../cli/fixtures/run.cjs');

// Runs a program without the capabilities that bpf(2) wants.
const WITHOUT = ['setpriv', '--bounding-set=-bpf,-sys_admin', '--inh-caps=-bpf,-sys_admin'];
const unable = spawnSync(WITHOUT[0], [...WITHOUT.slice(1), 'true']).status !== 0 && 'setpriv cannot take capabilities away here';

function listen({ cluster, report }) {
  require('node:net').createServer((socket) => socket.end(`${cluster.worker.id}`))
    .on('error', (error) => {
      report('error', error.code);
      process.exit(1);
    })
    .listen(0, '127.0.0.1');
}

const kinds = ['passed', 'rotation', ...hasKernel() ? ['kernel'] : []];

for (const kind of kinds) {
  test(`${kind} by setupPrimary, whatever the environment says`, ours, async () => {
    const run = await play({
      data: kind,
      async primary({ cluster, data, report, happens, ask }) {
        process.env.CL_MECHANISM = data === 'kernel' ? 'passed' : 'kernel';
        cluster.setupPrimary({ mechanism: data });
        cluster.setupPrimary({ silent: false });
        const worker = cluster.fork();
        const [{ port }] = await happens(worker, 'listening');
        report('answer', await ask(port), cluster.stats().addresses[0].mechanism, cluster.settings.mechanism);
        cluster.disconnect();
      },
      worker: listen,
    });
    assert.deepEqual(run.all('answer'), [['1', kind, kind]]);
  });

  test(`${kind} on the command line`, ours, async () => {
    const run = await cli({ args: ['-i', '1', '--mechanism', kind, '--stats=200ms', 'server.js'] }, async (started) => {
      await started.wait(new RegExp(`stats: .* ${kind} rr accepted 0 `));
      started.kill();
    });
    assert.equal(run.code, 0);
  });
}

test('a name that is none is refused by setupPrimary, and by fork where it came into the settings otherwise', ours, async () => {
  const run = await play({
    primary({ cluster, report, plain }) {
      const refused = (call) => {
        try {
          call();
          report('refused', null);
        } catch (error) {
          const { name, code, message } = plain(error);
          report('refused', name, code, message);
        }
      };
      refused(() => cluster.setupPrimary({ mechanism: 'fast' }));
      refused(() => cluster.setupPrimary({ mechanism: null }));
      report('settings', cluster.settings);
      cluster.settings.mechanism = 7;
      refused(() => cluster.fork());
      report('workers', Object.keys(cluster.workers).length);
    },
    worker() {},
  });
  const message = (received) =>
    `The property 'settings.mechanism' must be one of: 'auto', 'passed', 'kernel', 'rotation'. Received ${received}`;
  assert.deepEqual(run.all('refused'), ['\'fast\'', 'null', '7'].map((received) =>
    ['TypeError', 'ERR_INVALID_ARG_VALUE', message(received)]));
  assert.deepEqual(run.all('settings'), [[{}]]);
  assert.deepEqual(run.all('workers'), [[0]]);
});

test('kernel without the privilege: listen fails, and a warning names it; auto does without, and says so where that is the next best', { skip: unable || ours.skip }, () => {
  const program = `
    const cluster = require(${JSON.stringify(require.resolve('cluster-rs'))});
    if (cluster.isPrimary) {
      // Until what is expected has come: a warning, or a worker that serves.
      const stay = setTimeout(() => {}, 20_000);
      process.on('warning', ({ name, code, message }) => {
        console.log(name, code, message);
        clearTimeout(stay);
      });
      cluster.setupPrimary({ exec: process.argv[1], mechanism: process.argv[2] });
      const worker = cluster.fork();
      worker.on('message', (code) => console.log('refused', code));
      worker.on('listening', () => {
        const [{ mechanism }] = cluster.stats().addresses;
        console.log('serves', mechanism);
        clearTimeout(stay);
        const end = Date.now() + 300;
        const told = setInterval(() => {
          const { notices } = cluster.stats();
          if (notices.length === 0 && (mechanism === 'passed' || Date.now() < end)) return;
          clearInterval(told);
          if (notices.length > 0) console.log('notices', ...notices);
          worker.disconnect();
        }, 10);
      });
    } else {
      require('node:net').createServer().on('error', ({ code }) => {
        process.send(code, () => process.exit(1));
      }).listen(0, '127.0.0.1');
    }`;
  const fs = require('node:fs');
  const folder = fs.mkdtempSync(`${require('node:os').tmpdir()}/cluster-rs-test-`);
  const file = `${folder}/program.cjs`;
  fs.writeFileSync(file, program);
  const env = { ...process.env, CL_MECHANISM: 'auto', NODE_OPTIONS: '' };
  const start = (name, more) => {
    const [command, ...options] = WITHOUT;
    const settings = { encoding: 'utf8', env: { ...env, ...more }, timeout: 30_000 };
    return spawnSync(command, [...options, process.execPath, file, name], settings);
  };
  const notice = /connections to 127\.0\.0\.1:0#1 are passed on .* because the mechanism "kernel" needs .*CAP_BPF/;
  try {
    const byClient = { NODE_CLUSTER_SCHED_POLICY: 'source-hash' };
    const quiet = start('auto', byClient);
    assert.match(quiet.stdout, /^serves passed\nnotices (.*)\n$/);
    assert.match(quiet.stdout, notice);
    assert.equal(quiet.stderr, '');
    assert.match(start('auto', { ...byClient, NODE_DEBUG: 'cluster-rs' }).stderr, notice);
    const even = start('auto', { NODE_DEBUG: 'cluster-rs' });
    assert.deepEqual([even.stdout, even.stderr], ['serves rotation\n', '']);
    const { stdout } = start('kernel');
    assert.match(stdout, /^refused EPERM$/m);
    const warnings = stdout.split('\n').filter((line) => line.startsWith('ClusterWarning'));
    assert.equal(warnings.length, 1);
    assert.match(warnings[0], /^ClusterWarning CLUSTER_RS_ENGINE the mechanism "kernel" needs the capability CAP_BPF /);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});

test('kernel without the privilege on the command line: the last line says why', { skip: unable || ours.skip }, async () => {
  const run = await cli({
    args: ['-i', '2', '--mechanism', 'kernel', 'server.js'], command: (line) => [...WITHOUT, ...line],
  });
  assert.equal(run.code, 1);
  assert.match(run.said().at(-1), /^cannot listen on .*: the mechanism "kernel" needs the capability CAP_BPF .* \(EPERM\)$/);
});

test('--stats says once why connections are passed on', { skip: unable || ours.skip }, async () => {
  const args = ['-i', '1', '--mechanism', 'auto', '--policy', 'source-hash', '--stats=200ms', 'server.js'];
  const env = { CL_MECHANISM: 'auto' };
  const run = await cli({ args, env, command: (line) => [...WITHOUT, ...line] }, async (started) => {
    await started.wait(/stats: worker 0 .* passed source-hash/, { count: 3 });
    started.kill();
  });
  assert.equal(run.said('stdout').filter((line) => /^stats: connections to .* because .*CAP_BPF/.test(line)).length, 1);
});
