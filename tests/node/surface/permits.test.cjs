'use strict';
// The settings `listen` and `listenMax`: what workers may listen on.

const test = require('node:test');
const assert = require('node:assert/strict');
const { ours, play } = require('../support/index.cjs');

// In a worker: listens on each of data.asked, one after the other, and reports what became of it.
async function askForAll({ data, report }) {
  const net = require('node:net');
  const dgram = require('node:dgram');
  for (const asked of data.asked) {
    await new Promise((resolve) => {
      const done = (outcome) => {
        report('outcome', asked, outcome);
        resolve();
      };
      if (asked.udp !== undefined) {
        const socket = dgram.createSocket(asked.type ?? 'udp4').on('error', ({ code }) => done(code));
        socket.bind(asked.udp, asked.host, () => {
          done('listens');
          socket.close();
        });
      } else {
        const server = net.createServer().on('error', ({ code }) => done(code));
        server.listen(asked, () => server.close(() => done('listens')));
      }
    });
  }
  process.disconnect();
}

// Forks one worker that asks for all of them, under the settings.
async function primary({ cluster, data, report, happens }) {
  process.on('warning', ({ code, message }) => report('warning', code, message));
  if (data.policy) cluster.schedulingPolicy = cluster[data.policy];
  cluster.setupPrimary(data.settings);
  const worker = cluster.fork();
  report('exit', ...await happens(worker, 'exit'));
}

const FILES = [
  ['/run-that-is-not/x.sock', 'EACCES'], ['inside/x.sock', 'listens'], ['inside/../x.sock', 'EACCES'], ['x.sock', 'EACCES'],
];

for (const policy of ['SCHED_RR', 'SCHED_NONE']) {
  test(`${policy}: what is declared can be had, anything else is EACCES`, ours, async () => {
    const { mkdtempSync, mkdirSync, rmSync } = require('node:fs');
    const folder = mkdtempSync(`${require('node:os').tmpdir()}/cluster-rs-permits-`);
    mkdirSync(`${folder}/inside`);
    // What is asked for, and the outcome.
    const cases = [
      [{ host: '127.0.0.1', port: 0 }, 'listens'],
      [{ host: '127.0.0.2', port: 0 }, 'EACCES'],
      [{ host: '::ffff:127.0.0.1', port: 0 }, 'listens'],
      [{ host: '0.0.0.0', port: 0 }, 'EACCES'],
      [{ port: 0 }, 'EACCES'],
      [{ host: '127.0.0.1', port: 1 }, 'EACCES'],
      [{ path: '\0cluster-rs-permits' }, 'EACCES'],
      ...FILES.map(([file, outcome]) => [{ path: file.startsWith('/') ? file : `${folder}/${file}` }, outcome]),
      [{ fd: 0 }, 'EACCES'],
      [{ udp: 0, host: '127.0.0.1' }, 'listens'],
      [{ udp: 0, host: '127.0.0.2' }, 'EACCES'],
      [{ udp: 0 }, 'EACCES'],
    ];
    try {
      const run = await play({
        data: {
          policy, asked: cases.map(([asked]) => asked),
          settings: { listen: ['127.0.0.1:0', `unix:${folder}/inside/`, 'udp:127.0.0.1:0'] },
        },
        primary, worker: askForAll,
      });
      assert.deepEqual(run.all('outcome'), cases);
      assert.deepEqual(run.all('exit'), [[0, null]]);
      const [code, message] = run.all('warning')[0];
      assert.equal(code, 'CLUSTER_RS_WORKER');
      assert.match(message, /^worker 1: it may not listen: "127\.0\.0\.2:0" is none of the addresses/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}

test('without a declaration everything is allowed; a port alone is the one of all addresses', ours, async () => {
  const asked = [{ port: 0 }, { host: '127.0.0.1', port: 0 }];
  const free = await play({ data: { asked, settings: {} }, primary, worker: askForAll });
  assert.deepEqual(free.all('outcome').map(([, outcome]) => outcome), ['listens', 'listens']);
  const port = await play({ data: { asked, settings: { listen: [0] } }, primary, worker: askForAll });
  assert.deepEqual(port.all('outcome').map(([, outcome]) => outcome), ['listens', 'EACCES']);
  const none = await play({ data: { asked, settings: { listen: [] } }, primary, worker: askForAll });
  assert.deepEqual(none.all('outcome').map(([, outcome]) => outcome), ['EACCES', 'EACCES']);
});

test('listenMax: one more is EMFILE, and can be had when another is closed', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      cluster.setupPrimary({ listenMax: 2 });
      report('exit', ...await happens(cluster.fork(), 'exit'));
    },
    async worker({ report }) {
      const net = require('node:net');
      const listen = () => new Promise((resolve) => {
        const server = net.createServer().on('error', ({ code }) => {
          report('outcome', code);
          resolve(server);
        }).listen(0, '127.0.0.1', () => {
          report('outcome', 'listens');
          resolve(server);
        });
      });
      const [first] = [await listen(), await listen(), await listen()];
      await new Promise((resolve) => first.close(resolve));
      await listen();
      process.exit(0);
    },
  });
  assert.deepEqual(run.all('outcome'), [['listens'], ['listens'], ['EMFILE'], ['listens']]);
});

test('what is declared later counts from the next fork on', ours, async () => {
  const run = await play({
    data: { asked: [{ host: '127.0.0.1', port: 0 }] },
    async primary({ cluster, happens }) {
      await happens(cluster.fork(), 'exit');
      cluster.setupPrimary({ listen: ['127.0.0.2:0'] });
      await happens(cluster.fork(), 'exit');
    },
    worker: askForAll,
  });
  assert.deepEqual(run.all('outcome').map(([, outcome]) => outcome), ['listens', 'EACCES']);
});

test('what says nothing that can be understood is refused by setupPrimary, and nothing of it is kept', ours, async () => {
  const wrong = [
    { listen: '127.0.0.1:80' }, { listen: ['127.0.0.1'] }, { listen: [70000] }, { listen: [{}] }, { listen: ['unix:x.sock'] },
    { listen: ['127.0.0.1:9-1'] }, { listen: null }, { listenMax: -1 }, { listenMax: '3' },
  ];
  const run = await play({
    data: wrong,
    primary({ cluster, data, report, plain }) {
      for (const settings of data) {
        try {
          cluster.setupPrimary(settings);
          report('refused', null);
        } catch (error) {
          const { name, code } = plain(error);
          report('refused', name, code);
        }
      }
      report('settings', cluster.settings);
    },
    worker() {},
  });
  assert.deepEqual(run.all('refused'), wrong.map(() => ['TypeError', 'ERR_INVALID_ARG_VALUE']));
  assert.deepEqual(run.all('settings'), [[{}]]);
});

test('a directory that goes later stops no fork as long as the rules are the same', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens, directory, plain }) {
      const { mkdirSync, rmdirSync } = require('node:fs');
      const listen = ['127.0.0.1:0', `unix:${directory}/sockets/`];
      mkdirSync(`${directory}/sockets`);
      cluster.setupPrimary({ listen });
      const begin = async () => {
        const worker = cluster.fork();
        await happens(worker, 'listening');
        return worker;
      };
      const workers = [await begin()];
      rmdirSync(`${directory}/sockets`);
      workers.push(await begin());
      report('workers', workers.length);
      cluster.setupPrimary({ listen: [...listen, '127.0.0.2:0'] });
      try {
        cluster.fork();
      } catch (error) {
        report('thrown', plain(error).message.includes('sockets'));
      }
      for (const worker of workers) worker.disconnect();
    },
    worker() {
      require('node:net').createServer().listen(0, '127.0.0.1');
    },
  });
  assert.equal(run.one('workers'), 2);
  assert.equal(run.one('thrown'), true);
});

test('a directory that is not there: fork throws and says so', ours, async () => {
  const run = await play({
    primary({ cluster, report }) {
      cluster.setupPrimary({ listen: ['unix:/there/is/no/such/directory/'] });
      try {
        cluster.fork();
      } catch (error) {
        report('refused', error.message);
      }
      report('workers', Object.keys(cluster.workers).length);
    },
    worker() {},
  });
  assert.match(run.one('refused'), /^the directory "\/there\/is\/no\/such\/directory" of a listen rule: No such file/);
  assert.equal(run.one('workers'), 0);
});
