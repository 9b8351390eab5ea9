'use strict';

// A worker that sends nonsense, on Node's channel or on the engine's, harms only itself: the primary lives and its
// neighbours go on serving.

const test = require('node:test');
const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const { ask, ours, until } = require('../support/index.cjs');
const { tally } = require('./fixtures/clients.cjs');
const { startRig } = require('./fixtures/rig.cjs');

function answerId(w) {
  require('node:net').createServer((socket) => socket.on('error', () => {}).end(`${w.id}`)).listen(0, '127.0.0.1');
}

const startNeighbours = (t, settings) => startRig(t, { serve: answerId, settings: { silent: true, ...settings } });

// Starts a hostile worker that runs `attack(w, options)` and tells when it has done so; then looks at the others.
async function suffer(rig, attack, options = {}) {
  const [id] = await rig.request('fork', {
    count: 1,
    env: { RIG_SERVE: String(attack), RIG_OPTIONS: JSON.stringify(options) },
  });
  await rig.event(/^(tell|exit)$/, (e) => e.id === id);
  const counts = await tally(40, 4, () => ask(rig.port));
  // On a busy machine one of them may have been passed over all the time.
  for (const good of ['1', '2']) {
    await until(async () => counts.has(good) || await ask(rig.port) === good, `worker ${good} answers`);
  }
  const { workers } = await rig.stats();
  for (const good of [1, 2]) assert.ok(workers.some((worker) => worker.id === good), `worker ${good} is there`);
}

const odd = [null, undefined, true, -1, 1.5, 1e308, 65_536, '', 'x', '\u0000', [], {}, { toString: 1, valueOf: 1 }];

function sendEach(w, options) {
  for (const message of options.messages) {
    process.send(message, () => {});
  }
  // Node passes on what comes behind in the same order.
  process.send({ tell: 'sent' }, () => {});
}

const query = {
  cmd: 'NODE_CLUSTER', act: 'queryServer', seq: 1000,
  index: 0, data: null, address: '127.0.0.1', port: 0, addressType: 4, fd: -1, flags: 0,
};

// As a worker without the addon asks, and as one with it.
const bothWays = (fields) => [{ ...query, ...fields }, { ...query, crs: 1, ...fields }];
const withEach = (field) => odd.flatMap((value) => bothWays({ [field]: value }));
const paths = ['/', '/proc/1/x', '/nonexistent/a', 'x'.repeat(5000), '\u0000abstract', './', ''];
const acts = ['', 'newconn', 'disconnect', 'toString', 'constructor', '__proto__', 'valueOf', ...odd];

const malformed = {
  'queryServer with nothing in it': [
    { cmd: 'NODE_CLUSTER', act: 'queryServer' }, { cmd: 'NODE_CLUSTER', act: 'queryServer', crs: 1 },
  ],
  'queryServer with odd addresses': withEach('address'),
  'queryServer with odd ports': withEach('port'),
  'queryServer with odd kinds of address': withEach('addressType'),
  'queryServer with odd flags, backlogs and indexes': ['flags', 'backlog', 'index'].flatMap(withEach),
  'queryServer with odd descriptors': [...withEach('fd'), ...[0, 1, 2, 3, 4, 99_999].flatMap((fd) => bothWays({ fd }))],
  'queryServer with odd numbers and data': ['seq', 'data', 'crs'].flatMap(withEach),
  'queryServer for sockets of files': paths.flatMap((address) => bothWays({ address, port: -1, addressType: -1 })),
  'queryServer for datagrams': odd.flatMap((value) => [
    { ...query, addressType: 'udp4', address: value }, { ...query, addressType: 'udp4', port: value },
    { ...query, addressType: 'udp6', fd: value }, { ...query, addressType: 'udp4', flags: value },
  ]),
  'the same query again and again': Array(200).fill({ ...query, crs: 1 }),
  'acts that nobody knows': acts.map((act) => ({ cmd: 'NODE_CLUSTER', act, seq: 7 })),
  'close with odd keys': odd.map((key) => ({ cmd: 'NODE_CLUSTER', act: 'close', key, seq: 8 })),
  'listening with odd fields': odd.map((value) => ({
    cmd: 'NODE_CLUSTER', act: 'listening', addressType: value, address: value, port: value, fd: value, seq: 9,
  })),
  'acknowledgements of what was never asked': odd.flatMap((ack) => [
    { cmd: 'NODE_CLUSTER', ack },
    { cmd: 'NODE_CLUSTER', ack, accepted: true },
    { cmd: 'NODE_CLUSTER', ack: `cluster-rs:${JSON.stringify(ack)}` },
  ]),
  'online and exitedAfterDisconnect, many times': Array.from({ length: 20 }, (_, i) => ({
    cmd: 'NODE_CLUSTER', act: i % 2 ? 'online' : 'exitedAfterDisconnect', seq: i,
  })),
  'commands that nobody knows': odd.map((value) => ({ cmd: `NODE_${JSON.stringify(value)}`, act: value })),
  'an acknowledgement of a handle that never came': [{ cmd: 'NODE_HANDLE_ACK' }],
  'a refusal of a handle that never came': [{ cmd: 'NODE_HANDLE_NACK' }],
  'handles that are none': [
    { cmd: 'NODE_HANDLE' }, { cmd: 'NODE_HANDLE', type: 'net.Native' },
    { cmd: 'NODE_HANDLE', type: 'nonsense', msg: {} },
    { cmd: 'NODE_HANDLE', type: 'net.Socket', msg: { cmd: 'NODE_CLUSTER' } },
  ],
};

for (const [name, messages] of Object.entries(malformed)) {
  test(`Node's channel: ${name}`, ours, async (t) => {
    await suffer(await startNeighbours(t), sendEach, { messages });
  });
}

test('Node\'s channel: very large messages', ours, async (t) => {
  await suffer(await startNeighbours(t), () => {
    const text = 'x'.repeat(8 << 20);
    process.send({ cmd: 'NODE_CLUSTER', act: 'queryServer', crs: 1, address: text, port: 0, addressType: 4, seq: 1 });
    process.send({ cmd: 'NODE_CLUSTER', act: text, seq: 2 });
    process.send({ cmd: 'NODE_CLUSTER', act: 'close', key: text, seq: 3 });
    process.send({ tell: 'sent' });
    });
});

// What this process found in its environment when it was started; the preload has taken it out of process.env.
const channels = `(name) => {
  const text = require('node:fs').readFileSync('/proc/self/environ', 'latin1');
  return Number(new RegExp('(?:^|\\0)' + name + '=(\\\\d+)').exec(text)[1]);
}`;

const onChannel = (name, body) => `(w, options) => {
  const fs = require('node:fs');
  const fd = (${channels})('${name}');
  const write = (data) => { try { fs.writeSync(fd, data); } catch { /* Full, or the primary has closed it. */ } };
  process.on('uncaughtException', () => {});
  (${body})(fd, write, fs);
}`;

const frame = (type, ...words) => {
  const data = Buffer.alloc(8 + 4 * words.length);
  data.writeUInt16LE(type, 0);
  words.forEach((word, i) => data.writeUInt32LE(word >>> 0, 8 + 4 * i));
  return [...data];
};

const attacks = {
  'random bytes': (fd, write) => {
    const crypto = require('node:crypto');
    for (let i = 0; i < 100; i++) write(crypto.randomBytes(1 + i * 13));
  },
  'an empty packet': (fd, write) => write(Buffer.alloc(0)),
  'a very large packet': (fd, write) => write(Buffer.alloc(70_000, 5)),
  'text': (fd, write) => write('{"cmd":"NODE_CLUSTER"}\n'),
  'a flood of its own messages': (fd, write) => {
    const data = Buffer.alloc(1000);
    data.writeUInt16LE(5, 0);
    for (let i = 0; i < 3000; i++) write(data);
  },
  'it is closed': (fd, write, fs) => fs.closeSync(fd),
};

const frames = {
  'types that do not exist': [frame(0), frame(14), frame(65_535), frame(99, 1, 2, 3)],
  'a second ONLINE': [frame(2, 1, 1, 0, 0)],
  'frames of the primary': [frame(1, 0, 0, 0, 0), frame(8, 0), frame(9), frame(10), frame(11)],
  'CLOSE, PAUSE and RESUME of listeners that are not its own': [
    frame(4, 0), frame(4, 1), frame(4, 2), frame(4, 0xffffffff), frame(12, 1), frame(13, 1), frame(12, 0xffffffff),
  ],
  'frames of wrong length': [frame(4), frame(4, 1, 2), frame(6), frame(12, 1, 1), frame(7, 1), [4], [4, 0, 0], []],
  'LISTEN with nonsense': [
    frame(3, 0, 0, 0), frame(3, 0xffffffff, 0x80000000, 0xffffffff, 0x20202020), frame(3, 0, 0, 0, 0),
  ],
  'DISCONNECT again and again': Array(20).fill(frame(7)),
};

for (const [name, attack] of Object.entries(attacks)) {
  test(`the engine's channel: ${name}`, ours, async (t) => {
    const body = `(fd, write, fs) => { (${attack})(fd, write, fs); w.tell('sent'); }`;
    await suffer(await startNeighbours(t), onChannel('CL_CHANNEL_FD', body));
  });
}

for (const [name, packets] of Object.entries(frames)) {
  test(`the engine's channel: ${name}`, ours, async (t) => {
    const rig = await startNeighbours(t);
    // The first offence ends a worker, so each packet has its own, and one sends them all.
    for (const group of [...packets.map((packet) => [packet]), packets].slice(-8)) {
      const send = `${JSON.stringify(group)}.forEach((one) => write(Buffer.from(one)))`;
      const body = `(fd, write) => { ${send}; w.tell('sent'); }`;
      await suffer(rig, onChannel('CL_CHANNEL_FD', body));
    }
  });
}

test('the engine\'s channel: many descriptors are sent', ours, async (t) => {
  const python = spawnSync('python3', ['-c', 'import socket; socket.send_fds']);
  if (python.status !== 0) return t.skip('there is no python3 with send_fds');
  await suffer(await startNeighbours(t), onChannel('CL_CHANNEL_FD', `(fd) => {
    const script = 'import socket\\ns = socket.socket(fileno=3)\\n' +
      'for i in range(20): socket.send_fds(s, [bytes(12)], [0, 1, 2] * 60)';
    require('node:child_process').spawnSync('python3', ['-c', script], { stdio: ['ignore', 'ignore', 'ignore', fd] });
    w.tell('sent');
  }`));
});

test('Node\'s channel: bytes that are no messages', ours, async (t) => {
  await suffer(await startNeighbours(t), onChannel('NODE_CHANNEL_FD', `(fd, write) => {
    write('this is no JSON\\n{"cmd":\\n');
    w.tell('sent');
  }`));
});

test('Node\'s channel: what can be read and not be said again', ours, async (t) => {
  const rig = await startNeighbours(t);
  for (const field of ['seq', 'data']) {
    for (const [act, addressType] of [['queryServer', 4], ['queryServer', 'udp4'], ['exitedAfterDisconnect', 4]]) {
      // Another address than that of the neighbours, of which it would get connections.
      const fields = { cmd: 'NODE_CLUSTER', act, address: '127.0.0.2', port: 0, addressType, index: 0, seq: 1, data: null };
      delete fields[field];
      const text = `${JSON.stringify(fields).slice(0, -1)},"${field}":`;
      await suffer(rig, onChannel('NODE_CHANNEL_FD', `(fd, write) => {
        write(${JSON.stringify(text)} + '['.repeat(30_000) + ']'.repeat(30_000) + '}\\n');
        w.tell('sent');
      }`));
    }
  }
});

for (const [what, act, more] of [
  ['queries', 'queryServer', { address: 'x'.repeat(500), port: -1, addressType: -1, index: 0 }],
  ['notes that it leaves', 'exitedAfterDisconnect', {}],
]) {
  test(`Node's channel: ${what} without end, whose answers it never reads`, ours, async (t) => {
    const rig = await startNeighbours(t);
    const memory = () => rig.inPrimary(() => process.memoryUsage().rss);
    const before = await memory();
    await suffer(rig, onChannel('NODE_CHANNEL_FD', `(fd) => {
      const idle = new Int32Array(new SharedArrayBuffer(4));
      const write = (bytes) => {
        while (bytes.length > 0) {
          try {
            bytes = bytes.subarray(fs.writeSync(fd, bytes));
          } catch (error) {
            if (error.code !== 'EAGAIN') process.exit(9);
            Atomics.wait(idle, 0, 0, 1);
          }
        }
      };
      const fields = ${JSON.stringify({ cmd: 'NODE_CLUSTER', act, ...more })};
      for (let seq = 0; ; seq++) {
        write(Buffer.from(JSON.stringify({ ...fields, seq, address: '/nowhere/' + seq + fields.address }) + '\\n'));
      }
    }`));
    const grown = (await memory() - before) / 2 ** 20;
    assert.ok(grown < 100, `${grown} MiB`);
  });
}

test('Node\'s channel, advanced serialization: values that JSON does not have', ours, async (t) => {
  await suffer(await startNeighbours(t, { serialization: 'advanced' }), () => {
    const loop = {};
    loop.self = loop;
    const odd = [
      10n, new Map([[1, loop]]), new Set(), new Date(NaN), /x/, loop, new Uint8Array(9), NaN, -0, Infinity,
      new Error('odd'),
      Object.assign(Object.create(null), { toString: null }),
    ];
    const fields = [
      'address', 'port', 'addressType', 'fd', 'index', 'flags', 'backlog', 'seq', 'data', 'crs', 'key', 'ack',
    ];
    const kinds = [['queryServer', 4], ['queryServer', 'udp4'], ['listening', 4], ['close', 4]];
    for (const value of odd) {
      process.send(value);
      process.send({ cmd: 'NODE_CLUSTER', act: value, ack: value });
      for (const field of fields) {
        for (const [act, addressType] of kinds) {
          const fit = { cmd: 'NODE_CLUSTER', act, crs: 1, address: '127.0.0.1', port: 0, addressType };
          process.send({ ...fit, [field]: value });
        }
      }
    }
    process.send({ tell: 'sent' });
  });
});

test('Node\'s channel, advanced serialization: bytes that are no messages', ours, async (t) => {
  const rig = await startNeighbours(t, { serialization: 'advanced' });
  const packets = [
    [0, 0, 0, 4, 1, 2, 3, 4], [0, 0, 0, 0], [255, 255, 255, 255, 1], [0, 0, 0, 2, 255, 15, 0, 0, 0, 1, 9],
  ];
  for (const bytes of packets) {
    await suffer(rig, onChannel('NODE_CHANNEL_FD', `(fd, write) => {
      write(Buffer.from(${JSON.stringify(bytes)}));
      w.tell('sent');
      setTimeout(() => process.exit(), 1000);
    }`));
  }
});

test('a worker without the addon that never acknowledges a connection keeps at most one', ours, async (t) => {
  const rig = await startRig(t, { serve: answerId });
  // It listens like the others, but what the primary passes to it falls into silence.
  const [id] = await rig.fork(1, { env: {
    CLUSTER_RS_ADDON: '/nonexistent.node', NODE_NO_WARNINGS: '1',
    RIG_SERVE: String((w) => {
      require('node:net').createServer(() => {}).listen(0, '127.0.0.1', () => {
        const receive = process.listeners('internalMessage');
        process.removeAllListeners('internalMessage');
        process.on('internalMessage', (message, handle) => {
          if (message.act === 'newconn') return w.tell({ swallowed: true });
          for (const listener of receive) listener.call(process, message, handle);
        });
      });
    }),
  } });
  const { port } = rig;
  const answers = [];
  let lost = 0;
  for (let i = 0; i < 30; i++) answers.push(ask(port).catch(() => { lost++; }));
  await rig.told((value) => value.swallowed, id);
  rig.kill(id);
  await rig.event('exit', (e) => e.id === id);
  for (const answer of await Promise.all(answers)) assert.match(answer ?? '', /^[12]?$/);
  assert.ok(lost <= 1);
});
