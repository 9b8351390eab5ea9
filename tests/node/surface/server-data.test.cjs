'use strict';
// What a server gives its primary for its siblings: TLS ticket keys. Node gives it to a server before it looks at the error.

const test = require('node:test');
const assert = require('node:assert/strict');
const { play, ours } = require('../support/index.cjs');

const servers = {
  https: 'require("node:https").createServer()',
  tls: 'require("node:tls").createServer()',
  http2: 'require("node:http2").createSecureServer()',
};

// One worker for each server; each reports what became of its listen.
async function primary({ cluster, data, report, happens }) {
  process.on('warning', () => {});
  cluster.schedulingPolicy = cluster[data.policy];
  if (data.settings) cluster.setupPrimary(data.settings);
  const taken = require('node:net').createServer().listen(0, '127.0.0.1');
  await happens(taken, 'listening');
  for (const [name, text] of Object.entries(data.servers)) {
    const worker = cluster.fork({ SERVER: text, PORT: data.port ?? taken.address().port });
    worker.on('message', (code) => report('outcome', name, code));
    report('exit', name, ...await happens(worker, 'exit'));
  }
  taken.close();
}

function worker() {
  const server = new Function('require', `return ${process.env.SERVER}`)(require);
  server.on('error', ({ code }) => process.send(code, () => process.exit(0)));
  server.listen(process.env.PORT, '127.0.0.1', () => process.send('listens', () => process.exit(0)));
}

for (const policy of ['SCHED_RR', 'SCHED_NONE']) {
  test(`${policy}: a secure server whose address is taken hears an error`, ours, async () => {
    const run = await play({ data: { policy, servers }, primary, worker });
    assert.deepEqual(run.all('outcome'), Object.keys(servers).map((name) => [name, 'EADDRINUSE']));
    assert.deepEqual(run.all('exit'), Object.keys(servers).map((name) => [name, 0, null]));
  });

  test(`${policy}: a secure server that may not listen hears an error`, ours, async () => {
    const run = await play({ data: { policy, servers, settings: { listen: [1] }, port: 2 }, primary, worker });
    assert.deepEqual(run.all('outcome'), Object.keys(servers).map((name) => [name, 'EACCES']));
    assert.deepEqual(run.all('exit'), Object.keys(servers).map((name) => [name, 0, null]));
  });

  test(`${policy}: data that is no key harms no sibling, and its own server gets it back`, ours, async () => {
    const run = await play({
      data: policy,
      async primary({ cluster, data: policy, report, happens }) {
        cluster.schedulingPolicy = cluster[policy];
        const ports = new Set();
        const wrong = [{ ticketKeys: 5 }, {}, { ticketKeys: 'zz' }, { ticketKeys: 'zz'.repeat(48) }, 'text', [1]];
        for (const data of wrong) {
          const bad = cluster.fork({ DATA: JSON.stringify(data) });
          bad.on('message', (text) => report('given back', text));
          const [{ port }] = await happens(bad, 'listening');
          const good = cluster.fork();
          good.on('exit', (code, signal) => report('ended early', code, signal));
          await happens(good, 'listening');
          good.removeAllListeners('exit');
          ports.add(port);
          await Promise.all([bad, good].map((one) => {
            one.disconnect();
            return happens(one, 'exit');
          }));
        }
        report('rounds', ports.size);
      },
      worker() {
        if (!process.env.DATA) {
          require('node:https').createServer().listen(0, '127.0.0.1');
          return;
        }
        const server = require('node:net').createServer();
        server._getServerData = () => JSON.parse(process.env.DATA);
        server._setServerData = (data) => process.send(`${process.env.DATA === JSON.stringify(data)}`);
        server.listen(0, '127.0.0.1');
      },
    });
    assert.deepEqual(run.all('ended early'), []);
    assert.deepEqual(run.all('given back'), new Array(6).fill(['true']));
  });
}

test('the keys of an address are those of its first server, and go with the address', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const keysOf = async (worker) => (await happens(worker, 'message'))[0];
      const ends = (worker) => {
        worker.disconnect();
        return happens(worker, 'exit');
      };
      const [first, second] = [cluster.fork(), cluster.fork()];
      const keys = await Promise.all([keysOf(first), keysOf(second)]);
      report('same', keys[0] === keys[1]);
      await Promise.all([ends(first), ends(second)]);
      const third = cluster.fork();
      report('same again', await keysOf(third) === keys[0]);
      await ends(third);
    },
    worker() {
      const server = require('node:tls').createServer();
      server.listen(0, '127.0.0.1', () => process.send(server.getTicketKeys().toString('hex')));
    },
  });
  assert.equal(run.one('same'), true);
  assert.equal(run.one('same again'), false);
});

test('what servers give is not kept when they are closed', ours, async () => {
  const run = await play({
    execArgv: ['--expose-gc'],
    async primary({ cluster, report, happens }) {
      cluster.setupPrimary({ execArgv: [] });
      const used = () => {
        global.gc();
        return process.memoryUsage().heapUsed;
      };
      const before = used();
      const worker = cluster.fork();
      await happens(worker, 'message');
      report('megabytes', Math.round((used() - before) / 2 ** 20));
      worker.disconnect();
      await happens(worker, 'exit');
    },
    async worker() {
      const large = 'x'.repeat(1 << 20);
      for (let i = 0; i < 40; i++) {
        const server = require('node:net').createServer();
        server._getServerData = () => ({ ticketKeys: large + i });
        server._setServerData = () => {};
        await new Promise((resolve) => server.listen(`./s${i}`, () => server.close(resolve)));
      }
      process.send('done');
    },
  });
  assert.ok(run.one('megabytes') < 10, `${run.one('megabytes')} MB`);
});
