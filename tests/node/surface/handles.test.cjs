'use strict';
// Handles that workers send to the primary, asked for or not: the primary keeps what its program listens for, and lives.

const test = require('node:test');
const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const { ours, play } = require('../support/index.cjs');

// In a worker, before data.attack runs: `raw(message, handle)` writes on Node's channel what Node itself would not.
const TOOLS = `
  const net = require('node:net');
  const dgram = require('node:dgram');
  const { WriteWrap } = process.binding('stream_wrap');
  const [symbol] = Object.getOwnPropertySymbols(process).filter(({ description }) => description === 'kChannelHandle');
  const text = (bytes, handle) => process[symbol].writeUtf8String(new WriteWrap(), bytes, handle);
  const raw = (message, handle) => text(JSON.stringify({ cmd: 'NODE_HANDLE', msg: {}, ...message }) + '\\n', handle);
  const listening = (serve) => new Promise((resolve) => {
    const server = net.createServer((socket) => socket.on('error', () => {}));
    server.listen({ port: 0, host: '127.0.0.1', exclusive: true }, () => resolve(server));
  });
  const connected = async () => {
    const server = await listening();
    return new Promise((resolve) => {
      server.once('connection', (socket) => resolve({ socket, client }));
      const client = net.connect(server.address().port, '127.0.0.1').on('error', () => {});
    });
  };
  const datagrams = () => new Promise((resolve) => {
    const socket = dgram.createSocket('udp4');
    socket.bind({ port: 0, address: '127.0.0.1', exclusive: true }, () => {
      const [state] = Object.getOwnPropertySymbols(socket).filter(({ description }) => description === 'state symbol');
      resolve({ socket, handle: socket[state].handle });
    });
  });
  process.on('uncaughtException', () => {});
  setTimeout(() => {}, 1e6);
`;

// Workers attack, one after the other; the program listens for messages or does not. Afterwards another one serves.
async function suffer({ cluster, data, report, happens, ask }) {
  let name;
  process.on('warning', ({ message }) => report('warning', name, message));
  const heard = [];
  if (data.isHeard) cluster.on('message', (worker, message, handle) => handle && heard.push(handle));
  cluster.setupPrimary({ execArgv: ['--no-deprecation'] });
  const open = () => require('node:fs').readdirSync('/proc/self/fd').length;
  for ([name] of Object.entries(data.attacks)) {
    const bad = cluster.fork({ ATTACK: name });
    await happens(bad, 'online');
    const atFirst = open();
    const gone = happens(bad, 'exit');
    await Promise.race([gone, happens(bad, 'listening')]);
    await new Promise((resolve) => setTimeout(resolve, data.wait));
    report('after', name, { open: open() - atFirst, isAlive: !bad.isDead(), heard: heard.length });
    bad.process.kill('SIGKILL');
    await gone;
    for (const handle of heard.splice(0)) {
      try {
        (handle.destroy ?? handle.close).call(handle);
      } catch ({ code }) {
        report('closed', code);
      }
    }
  }
  const good = cluster.fork();
  const [{ port }] = await happens(good, 'listening');
  report('answer', await ask(port));
  good.disconnect();
  await happens(good, 'exit');
}

async function attack({ data }) {
  const server = require('node:net').createServer((socket) => socket.end('good'));
  const text = data.attacks[process.env.ATTACK];
  // The listening tells that it is done.
  if (text) await new Function('require', `return (async () => { ${data.tools}; await (${text})(); })()`)(require);
  server.listen(0, '127.0.0.1');
}

// Attacks are text that sees the tools. Gives what was there after each, by its name, and all warnings.
async function check(attacks, { isHeard = false, wait = 300 } = {}) {
  const run = await play({ data: { tools: TOOLS, attacks, isHeard, wait }, primary: suffer, worker: attack });
  assert.equal(run.one('answer'), 'good');
  return { after: Object.fromEntries(run.all('after')), warnings: run.all('warning') };
}

const SERVER = '(await listening())._handle';
const SOCKET = '(await connected()).socket._handle';
const UDP = '(await datagrams()).handle';

const faults = {
  'a class that is none': `async () => raw({ type: "nonsense" }, ${SERVER})`,
  'a stream as datagrams': `async () => raw({ type: "dgram.Socket", dgramType: "udp4" }, ${SERVER})`,
  'a stream as a native datagram handle': `async () => raw({ type: "dgram.Native" }, ${SERVER})`,
  'datagrams as a server': `async () => raw({ type: "net.Server" }, ${UDP})`,
  'datagrams as a socket': `async () => raw({ type: "net.Socket" }, ${UDP})`,
  'datagrams of no type': `async () => raw({ type: "dgram.Socket", dgramType: "nonsense" }, ${UDP})`,
  'a socket of "constructor"': `async () => raw({ type: "net.Socket", key: "constructor" }, ${SOCKET})`,
  'a socket of "__proto__"': `async () => raw({ type: "net.Socket", key: "__proto__" }, ${SOCKET})`,
  'a socket of an object': `async () => raw({ type: "net.Socket", key: { a: 1 } }, ${SOCKET})`,
  'no message': `async () => raw({ type: "net.Native", msg: undefined }, ${SERVER})`,
  'a message of the cluster': `async () => raw({ type: "net.Native", msg: { cmd: "NODE_CLUSTER", act: "online" } }, ${SERVER})`,
  'a handle within a handle': `async () => raw({ type: "net.Socket", msg: { cmd: "NODE_HANDLE", type: "net.Server" } }, ${SERVER})`,
  'handles without their message': `async () => {
    const { _handle } = await listening();
    for (let i = 0; i < 50; i++) text('{"plain":1}\\n', _handle);
  }`,
};

// Nobody is harmed by these. What a listener gets is the program's.
const harmless = {
  'a socket whose client resets': `async () => {
    const { socket, client } = await connected();
    process.send('x', socket);
    setTimeout(() => client.resetAndDestroy(), 100);
  }`,
  'a server': 'async () => process.send("x", await listening())',
  'a listening socket as a connection': `async () => raw({ type: "net.Socket" }, ${SERVER})`,
  'a connection as a server': 'async () => raw({ type: "net.Server" }, (await connected()).client._handle)',
  'a handle that has not come': 'async () => raw({ type: "net.Socket" })',
  'a server of which it asks again and again': `async () => {
    raw({ type: "net.Socket", key: "4:127.0.0.1:1" }, ${SOCKET});
    for (let i = 0; i < 3000; i++) text('{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"4:127.0.0.1:1"}\\n');
  }`,
  'a server of which it asks, and ends': `async () => {
    raw({ type: "net.Socket", key: "4:127.0.0.1:1" }, ${SOCKET});
    for (let i = 0; i < 3000; i++) text('{"cmd":"NODE_SOCKET_GET_COUNT","key":"4:127.0.0.1:1"}\\n');
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), 20);
  }`,
};

for (const isHeard of [false, true]) {
  const how = isHeard ? 'that is listened for' : 'that nobody listens for';

  const names = Object.keys(faults);
  for (let first = 0; first < names.length; first += 4) {
    const some = names.slice(first, first + 4);
    test(`what no Node sends, ${how}, is closed, and whoever sends it is ended: ${some.join(', ')}`, ours, async () => {
      const { after, warnings } = await check(Object.fromEntries(some.map((name) => [name, faults[name]])), { isHeard });
      for (const name of some) {
        const { open, isAlive, heard } = after[name];
        assert.ok(open < 10 && !isAlive && heard === 0, `${name}: ${JSON.stringify(after[name])}`);
        const [[, sentence]] = warnings.filter(([about]) => about === name);
        assert.match(sentence, /^worker \d+: it sent .* and was ended$/, name);
      }
    });
  }

  test(`a handle ${how}: the primary lives, whatever becomes of it`, ours, () => check(harmless, { isHeard, wait: 600 }));
}

const FLOOD = `async () => {
  const { socket } = await datagrams();
  for (let i = 0; i < 600; i++) process.send({ i }, socket, () => {});
}`;

test('600 handles that nobody listens for are closed at once', ours, async () => {
  const { after: { flood }, warnings } = await check({ flood: FLOOD }, { wait: 1000 });
  assert.ok(flood.open < 10, `${flood.open} are open`);
  assert.equal(flood.isAlive, true);
  assert.deepEqual(warnings, [['flood', 'worker 1: it sent a handle, which was closed: nobody listens for it']]);
});

test('a socket that nobody listens for is closed when its client ends, and not before', async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const worker = cluster.fork();
      report('exit', ...await happens(worker, 'exit'));
    },
    worker({ cluster, report }) {
      const net = require('node:net');
      const server = net.createServer((socket) => {
        process.send('the first', socket);
        process.send('the second', socket);
      });
      server.listen(0, '127.0.0.1', () => {
        const client = net.connect(server.address().port, '127.0.0.1');
        let hasEnded = false;
        setTimeout(() => {
          hasEnded = true;
          client.end();
        }, 300);
        client.on('close', () => {
          report('closed', hasEnded);
          // The primary is asked. It may not have heard yet that the socket is closed.
          server.getConnections((error, count) => report('count', error, count <= 1));
          cluster.worker.disconnect();
        });
      });
    },
  });
  assert.deepEqual([run.all('closed'), run.all('count'), run.all('exit')], [[[true]], [[null, true]], [[0, null]]]);
});

test('many sockets that nobody listens for: few are open, none after a second, and their server can be closed', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const open = () => require('node:fs').readdirSync('/proc/self/fd').length;
      cluster.fork();
      const [worker] = await happens(cluster, 'listening');
      const before = open();
      let most = 0;
      const timer = setInterval(() => { most = Math.max(most, open() - before); }, 10);
      await happens(worker, 'disconnect');
      clearInterval(timer);
      report('open', most, open() - before);
    },
    worker({ cluster, report }) {
      const net = require('node:net');
      const server = net.createServer((socket) => process.send('mine no more', socket));
      server.listen(0, '127.0.0.1', () => {
        let left = 60;
        for (let i = 0; i < 60; i++) {
          net.connect(server.address().port, '127.0.0.1').resume().on('error', () => {}).on('close', () => {
            left -= 1;
            if (left > 0) return;
            server.getConnections((error, count) => report('count', error, count <= 8));
            cluster.worker.disconnect();
          });
        }
      });
    },
  });
  const [[most, atLast]] = run.all('open');
  assert.ok(most < 15 && atLast < 4, `${most} were open, at last ${atLast}`);
  assert.deepEqual(run.all('count'), [[null, true]]);
});

// The primary cannot have got the socket of which a worker asks.
test('a worker that asks about the sockets of a server is answered, whatever has become of them', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const worker = cluster.fork();
      report('exit', ...await happens(worker, 'exit'));
    },
    worker({ report }) {
      const heard = [];
      process.on('internalMessage', ({ cmd, key, count }) => {
        if (!/^NODE_SOCKET/.test(cmd)) return;
        heard.push([cmd, key, count]);
        if (heard.length < 2) return;
        report('heard', heard);
        process.exit(0);
      });
      for (const cmd of ['NODE_SOCKET_GET_COUNT', 'NODE_SOCKET_NOTIFY_CLOSE']) process._send({ cmd, key: '4:127.0.0.1:1' });
    },
  });
  const server = '4:127.0.0.1:1';
  assert.deepEqual(run.one('heard'), [['NODE_SOCKET_COUNT', server, 0], ['NODE_SOCKET_ALL_CLOSED', server, null]]);
  assert.deepEqual(run.all('exit'), [[0, null]]);
});

test('a listener that keeps handles: so many, and then whoever sends them is ended and they are closed', ours, async () => {
  const { after: { flood }, warnings } = await check({ flood: FLOOD.replace('600', '1200') }, { isHeard: true, wait: 3000 });
  assert.ok(flood.open < 10, `${flood.open} are open`);
  assert.equal(flood.isAlive, false);
  assert.match(warnings[0][1], /^worker 1: it sent more than \d+ handles and was ended$/);
});

// Sends descriptors with a byte of a message each, as only a program can that is not Node.
const sending = (list) => `async () => {
  const script = 'import socket\\ns = socket.socket(fileno=3)\\n' +
    'for i in range(20): socket.send_fds(s, [b"1\\\\n"], ${list})';
  const stdio = ['ignore', 'ignore', 'ignore', process[symbol].fd];
  require('node:child_process').spawnSync('python3', ['-c', script], { stdio });
}`;

test('descriptors of which Node makes no handle end whoever sends them, and not the primary', ours, async (t) => {
  const python = spawnSync('python3', ['-c', 'import socket; socket.send_fds']);
  if (python.status !== 0) return t.skip('there is no python3 with send_fds');
  const attacks = { 'a file': sending('[0]'), 'many files': sending('[0] * 60'), 'many sockets': sending('[3] * 60') };
  const { after, warnings } = await check(attacks, { wait: 1000 });
  for (const [name, { open, isAlive }] of Object.entries(after)) {
    assert.ok(open < 10 && !isAlive, `${name}: ${open} are open`);
  }
  const sentence = (id) => `worker ${id}: it sent descriptors of which Node makes no handle and was ended`;
  assert.deepEqual(warnings, Object.keys(attacks).map((name, index) => [name, sentence(index + 1)]));
});

test('a handle behind the message at which the program hangs up', ours, async () => {
  const run = await play({
    data: TOOLS,
    async primary({ cluster, report, happens }) {
      cluster.setupPrimary({ execArgv: ['--no-deprecation'] });
      const worker = cluster.fork();
      worker.on('message', () => worker.process.disconnect());
      report('exit', ...await happens(worker, 'exit'));
    },
    worker({ data }) {
      new Function('require', `${data}; text('"bye"\\n{"cmd":"NODE_HANDLE","type":"net.Native","msg":{}}\\n');
        process.once('disconnect', () => process.exit(0));`)(require);
    },
  });
  assert.deepEqual(run.all('exit'), [[0, null]]);
});

test('a worker that ends without acknowledging a handle is forgotten like any other', ours, async () => {
  const run = await play({
    async primary({ cluster, report, happens }) {
      const worker = cluster.fork();
      await happens(worker, 'message');
      const both = Promise.all([happens(worker, 'disconnect'), happens(worker, 'exit')]);
      worker.process.kill('SIGKILL');
      await both;
      report('left', Object.keys(cluster.workers).length);
    },
    worker() {
      process.removeAllListeners('internalMessage');
      const query = { address: '127.0.0.1', port: 0, addressType: 'udp4', fd: -1, index: 0, flags: 0, data: null };
      process.send({ cmd: 'NODE_CLUSTER', act: 'queryServer', seq: 1, ...query });
      setTimeout(() => process.send('asked'), 200);
      setInterval(() => {}, 1000);
    },
  });
  assert.equal(run.one('left'), 0);
});
