'use strict';
// Inspector ports: each worker has its own, counted on from the primary's, or as the setting says.

const test = require('node:test');
const assert = require('node:assert/strict');
const { play } = require('../support/index.cjs');

// Looks at the port that is named for a worker. Whether it is free is not the cluster's business, nor this test's.
async function named({ cluster, report, happens, data }) {
  let calls = 0;
  const kinds = { nothing: undefined, 'a number': 12345, 'a function': () => 20000 + ++calls, zero: 0 };
  for (const kind of data) {
    cluster.setupPrimary({ silent: true, inspectPort: kinds[kind] });
    const worker = cluster.fork();
    const ports = worker.process.spawnargs.filter((one) => one.startsWith('--inspect-port='));
    report('named', kind, ports.map((one) => Number(one.split('=')[1])), process.debugPort);
    worker.process.stderr.resume();
    await happens(worker, 'exit');
  }
}

function leave({ report }) {
  report('execArgv', process.execArgv);
  process.disconnect();
}

test('without the setting the workers count on from the primary\'s port', async () => {
  const run = await play({
    execArgv: ['--inspect=127.0.0.1:0'],
    data: ['nothing', 'nothing', 'nothing'],
    primary: named,
    worker: leave,
  });
  for (const [i, [, ports, port]] of run.all('named').entries()) assert.deepEqual(ports, [port + i + 1]);
});

test('a number is the port, a function is asked each time, 0 leaves it to the system', async () => {
  const run = await play({
    execArgv: ['--inspect=127.0.0.1:0'],
    data: ['a number', 'a function', 'a function', 'zero'],
    primary: named,
    worker: leave,
  });
  assert.deepEqual(run.all('named').map(([kind, ports]) => [kind, ports]),
    [['a number', [12345]], ['a function', [20001]], ['a function', [20002]], ['zero', [0]]]);
  assert.deepEqual(run.all('execArgv')[0], [['--inspect=127.0.0.1:0', '--inspect-port=12345']]);
});

test('without an inspector no port is named', async () => {
  const run = await play({ data: ['nothing', 'a number', 'a function'], primary: named, worker: leave });
  assert.deepEqual(run.all('named').map(([, ports]) => ports), [[], [], []]);
  assert.deepEqual(run.all('execArgv'), [[[]], [[]], [[]]]);
});

test('a bad inspectPort throws from fork, null also without an inspector, and leaves no worker', async () => {
  const run = await play({
    primary({ cluster, report, plain }) {
      const bad = [['null', null], ['-1', -1], ['65536', 65536], ['a function', () => 70000], ['a word', 'x']];
      for (const [name, inspectPort] of bad) {
        for (const execArgv of [[], ['--inspect=127.0.0.1:0']]) {
          if (execArgv.length === 0 && inspectPort !== null) continue;
          cluster.setupPrimary({ inspectPort, execArgv });
          try {
            cluster.fork();
            report('bad', name, execArgv.length, 'forked');
          } catch (error) {
            report('bad', name, execArgv.length, plain(error).name, error.code);
          }
        }
      }
      report('workers', Object.keys(cluster.workers));
    },
  });
  const thrown = ['RangeError', 'ERR_SOCKET_BAD_PORT'];
  assert.deepEqual(run.all('bad'), [['null', 0, ...thrown], ['null', 1, ...thrown], ['-1', 1, ...thrown],
    ['65536', 1, ...thrown], ['a function', 1, ...thrown], ['a word', 1, ...thrown]]);
  assert.deepEqual(run.one('workers'), []);
});
