'use strict';
// Where the policy comes from, when it is frozen, and what SCHED_NONE and SCHED_RR do.

const test = require('node:test');
const assert = require('node:assert/strict');
const { exactTurns, isStock, ours, play } = require('../support/index.cjs');

for (const [value, policy] of [['rr', 2], ['none', 1], ['', 2], ['nonsense', 2], ['RR', 2]]) {
  test(`NODE_CLUSTER_SCHED_POLICY=${value} is policy ${policy}`, async () => {
    const run = await play({
      env: { NODE_CLUSTER_SCHED_POLICY: value },
      primary: ({ cluster, report }) => report('policy', cluster.schedulingPolicy),
    });
    assert.equal(run.one('policy'), policy);
  });
}

for (const [value, policy] of [['least-loaded', 3], ['source-hash', 4]]) {
  test(`NODE_CLUSTER_SCHED_POLICY=${value} is policy ${policy}, frozen at the first setupPrimary`, ours, async () => {
    const run = await play({
      env: { NODE_CLUSTER_SCHED_POLICY: value },
      async primary({ cluster, report, happens, request }) {
        report('policy', cluster.schedulingPolicy, cluster.SCHED_LEAST_LOADED, cluster.SCHED_SOURCE_HASH);
        const setup = happens(cluster, 'setup');
        cluster.setupPrimary({ silent: false });
        report('after', cluster.schedulingPolicy, (await setup)[0] === cluster.settings);
        cluster.schedulingPolicy = cluster.SCHED_RR;
        cluster.setupPrimary();
        const worker = cluster.fork();
        const [{ port }] = await happens(worker, 'listening');
        report('answer', (await request(port)).body, cluster.stats().addresses[0].policy, cluster.schedulingPolicy);
        worker.disconnect();
        await happens(worker, 'exit');
      },
      worker: () => require('node:http').createServer((asked, answer) => answer.end('served')).listen(0, '127.0.0.1'),
    });
    assert.deepEqual(run.all('policy'), [[policy, 3, 4]]);
    assert.deepEqual(run.all('after'), [[policy, true]]);
    assert.deepEqual(run.all('answer'), [['served', value, 2]]);
  });
}

for (const name of ['SCHED_LEAST_LOADED', 'SCHED_SOURCE_HASH']) {
  test(`schedulingPolicy takes ${name} until the first fork`, ours, async () => {
    const run = await play({
      data: name,
      async primary({ cluster, report, happens, data }) {
        cluster.schedulingPolicy = cluster[data];
        const worker = cluster.fork();
        cluster.schedulingPolicy = cluster.SCHED_NONE;
        await happens(worker, 'listening');
        report('policy', cluster.stats().addresses.map(({ policy }) => policy));
        worker.disconnect();
        await happens(worker, 'exit');
      },
      worker: () => require('node:net').createServer().listen(0, '127.0.0.1'),
    });
    assert.deepEqual(run.one('policy'), [name.slice(6).toLowerCase().replace('_', '-')]);
  });
}

test('the variable is read when the module is loaded, not later', async () => {
  const run = await play({
    primary({ cluster, report }) {
      process.env.NODE_CLUSTER_SCHED_POLICY = 'none';
      cluster.setupPrimary();
      report('policy', cluster.schedulingPolicy);
    },
  });
  assert.equal(run.one('policy'), 2);
});

for (const [name, bad] of [['a number that is none', 7], ['a word', 'rr'], ['undefined', undefined]]) {
  test(`a bad schedulingPolicy (${name}) throws at the first setupPrimary or fork`, async () => {
    const run = await play({
      data: bad === undefined ? {} : { bad },
      primary({ cluster, report, plain, data }) {
        cluster.schedulingPolicy = data.bad;
        for (const name of ['setupPrimary', 'fork']) {
          try {
            cluster[name]();
            report('thrown', name, null);
          } catch (error) {
            report('thrown', name, plain(error));
          }
        }
        // The second call finds the cluster set up already, whatever became of the first.
        for (const id in cluster.workers) cluster.workers[id].process.kill('SIGKILL');
      },
      worker: () => setInterval(() => {}, 1000),
    });
    const [[name1, first]] = run.all('thrown');
    assert.equal(name1, 'setupPrimary');
    assert.equal(first.code, 'ERR_INTERNAL_ASSERTION');
    assert.ok(first.message.includes(`Bad cluster.schedulingPolicy: ${bad}`), first.message);
  });
}

test('the policy is frozen at the first setupPrimary', async () => {
  const run = await play({
    async primary({ cluster, report, happens, listeningPorts, request }) {
      cluster.setupPrimary();
      cluster.schedulingPolicy = cluster.SCHED_NONE;
      const worker = cluster.fork();
      const [{ port }] = await happens(worker, 'listening');
      // Under SCHED_NONE the worker would hold the listening socket, as in rotation; with the mechanism kernel it has one of its own.
      const [{ mechanism, policy } = { mechanism: 'passed', policy: 'rr' }] = cluster.stats?.().addresses ?? [];
      const expected = mechanism !== 'passed';
      report('ports', listeningPorts().includes(port), listeningPorts(worker.process.pid).includes(port) === expected, policy);
      report('answer', (await request(port)).body);
      worker.disconnect();
      await happens(worker, 'exit');
    },
    worker: () => require('node:http').createServer((asked, answer) => answer.end('rr')).listen(0, '127.0.0.1'),
  });
  assert.deepEqual(run.all('ports'), [[true, true, 'rr']]);
  assert.equal(run.one('answer'), 'rr');
});

for (const how of ['schedulingPolicy', 'NODE_CLUSTER_SCHED_POLICY']) {
  test(`SCHED_NONE by ${how}: the workers hold the socket and accept themselves`, async () => {
    const run = await play({
      env: how === 'schedulingPolicy' ? {} : { NODE_CLUSTER_SCHED_POLICY: 'none' },
      async primary({ cluster, report, happens, listeningPorts, request }) {
        cluster.schedulingPolicy = cluster.SCHED_NONE;
        const workers = [cluster.fork(), cluster.fork()];
        const [[{ port }], [address]] = await Promise.all(workers.map((worker) => happens(worker, 'listening')));
        report('addresses', address.port === port, address.address, address.addressType);
        report('ports', workers.map((worker) => listeningPorts(worker.process.pid).includes(port)));
        let right = 0;
        for (let i = 0; i < 8; i++) {
          const { body } = await request(port);
          if (workers.some((worker) => String(worker.id) === body)) right++;
        }
        report('right', right);
        // The other goes on when one leaves.
        workers[0].disconnect();
        await happens(workers[0], 'exit');
        report('left', (await request(port)).body);
        workers[1].disconnect();
        await happens(workers[1], 'exit');
        report('at the end', listeningPorts());
      },
      worker({ cluster }) {
        const answers = (asked, answer) => answer.end(String(cluster.worker.id));
        require('node:http').createServer(answers).listen(0, '127.0.0.1');
      },
    });
    assert.deepEqual(run.all('addresses'), [[true, '127.0.0.1', 4]]);
    assert.deepEqual(run.one('ports'), [true, true]);
    assert.equal(run.one('right'), 8);
    assert.equal(run.one('left'), '2');
    assert.deepEqual(run.one('at the end'), []);
  });
}

test('SCHED_NONE: an error is Node\'s, and close and listen again work', async () => {
  const run = await play({
    env: { NODE_CLUSTER_SCHED_POLICY: 'none' },
    async primary({ cluster, report, happens, ask }) {
      const taken = require('node:net').createServer().listen(0, '127.0.0.1');
      await happens(taken, 'listening');
      const { port } = taken.address();
      const refused = cluster.fork();
      await happens(refused, 'online');
      refused.send(port);
      const [error] = await happens(refused, 'message');
      report('error', error, port);
      refused.disconnect();
      await happens(refused, 'exit');
      await new Promise((resolve) => taken.close(resolve));
      const worker = cluster.fork();
      await happens(worker, 'online');
      for (const round of [1, 2]) {
        worker.send(port);
        report('round', round, (await happens(worker, 'message'))[0], await ask(port));
        worker.send('close');
        await happens(worker, 'message');
      }
      worker.disconnect();
      await happens(worker, 'exit');
    },
    worker({ plain }) {
      const server = require('node:net').createServer((socket) => socket.end('served'));
      server.on('error', (error) => process.send(plain(error)));
      server.on('listening', () => process.send('listening'));
      process.on('message', (message) => {
        if (message === 'close') server.close(() => process.send('closed'));
        else server.listen(message, '127.0.0.1');
      });
    },
  });
  const [[{ code, errno, syscall, address, port }, wanted]] = run.all('error');
  assert.deepEqual({ code, errno, syscall, address, port },
    { code: 'EADDRINUSE', errno: -98, syscall: 'bind', address: '127.0.0.1', port: wanted });
  assert.deepEqual(run.all('round'), [[1, 'listening', 'served'], [2, 'listening', 'served']]);
});

test('SCHED_RR takes the workers in turn, one after the other', async () => {
  const run = await play({
    env: exactTurns(),
    async primary({ cluster, report, happens, ask }) {
      const workers = [cluster.fork(), cluster.fork(), cluster.fork()];
      const [[{ port }]] = await Promise.all(workers.map((worker) => happens(worker, 'listening')));
      const turns = [];
      for (let i = 0; i < 12; i++) turns.push(await ask(port));
      report('turns', turns, cluster.stats?.().addresses[0].reclaimed);
      cluster.disconnect();
    },
    worker({ cluster }) {
      require('node:net').createServer((socket) => socket.end(`${cluster.worker.id}`)).listen(0, '127.0.0.1');
    },
  });
  const [[turns, reclaimed]] = run.all('turns');
  const count = (id) => turns.filter((one) => one === id).length;
  assert.equal(turns.length, 12);
  // Stock puts a worker to the end of the queue when its acknowledgement arrives, which need not be in turn; and ours
  // gives to another what a worker did not take for a while, because the machine is busy.
  const exact = !isStock && reclaimed === 0;
  for (const id of ['1', '2', '3']) {
    if (!exact) assert.ok(count(id) >= 2, turns.join());
    else assert.equal(count(id), 4, turns.join());
  }
  if (exact) for (let i = 3; i < 12; i++) assert.equal(turns[i], turns[i - 3], turns.join());
});
