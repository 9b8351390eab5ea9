'use strict';

// Answers workers' queries from the engine, in Node's own messages. See ipc.cjs.

const { errno: ERRNO } = require('node:os').constants;

const { addressOf, refusalOf } = require('../address.cjs');
const { isDatagram, isQuery, keyOf } = require('../query.cjs');
const { keysOf } = require('./data.cjs');
const { reply } = require('./ipc.cjs');
const { Relay } = require('./relay.cjs');

// A dead server's socket file is replaced under the lock of its directory, which anybody may hold. How often the lock is tried
// again, and for how long, in milliseconds.
const AGAIN = 10;
const LONGEST = 100;

// The primary holds a share for a worker that knows only Node's way.
function relay(engine, entry, key, wanted) {
  const [answer, listener] = engine.relay(entry.id, wanted);
  if (listener) entry.shares.set(key, new Relay(engine, entry, key, answer, listener));
  return answer;
}

function answerQuery(engine, entry, message, wantsLoad, until = performance.now() + LONGEST) {
  const { worker, id } = entry;
  // One that is leaving gets no answer, as in Node.
  if (worker.exitedAfterDisconnect) return;
  const key = keyOf(message);
  const wanted = addressOf(message);
  let answer = { errno: -ERRNO.EINVAL };
  if (wanted) {
    wanted.keys = keysOf(message.data);
    // A worker with the addon takes its share itself, and closes it on the engine's channel.
    answer = message.crs === 1 ? engine.grant(id, wanted) : relay(engine, entry, key, wanted);
  }
  // One query of a worker waits at a time.
  if (answer.errno === -ERRNO.EAGAIN && (entry.postponed ??= message) === message && performance.now() < until) {
    const again = () => worker.process.connected && answerQuery(engine, entry, message, wantsLoad, until);
    setTimeout(again, AGAIN);
    return;
  }
  if (entry.postponed === message) entry.postponed = undefined;
  if (answer.errno) {
    const errno = refusalOf(wanted, answer.errno);
    // Node gives the data to the server before it looks at the error. The reason is for the command line; see cli/binds.cjs.
    reply(worker, { errno, key, ack: message.seq, data: message.data, ...(answer.reason && { crsWhy: answer.reason }) });
    return;
  }
  reply(worker, {
    errno: null,
    key,
    ack: message.seq,
    data: answer.keys === undefined ? message.data : { ticketKeys: answer.keys },
    ...(answer.sockname && { sockname: answer.sockname }),
    ...(message.crs === 1 && { crs: answer.listener }),
    ...(wantsLoad && { crsLoad: 1 }),
  });
}

/** The stage that answers a worker's queries. `wantsLoad`: the worker is to report its load. */
function answerQueries(engine, entry, wantsLoad) {
  const { shares } = entry;
  return {
    hears(message) {
      if (message?.cmd !== 'NODE_CLUSTER') return false;
      const { act, ack } = message;
      if (isQuery(message)) {
        entry.asksHere = true;
        // Node's own code opens datagram sockets.
        if (isDatagram(message)) return false;
        answerQuery(engine, entry, message, wantsLoad);
        return true;
      }
      if (act === 'close') shares.get(message.key)?.close();
      else if (typeof ack === 'string') for (const share of shares.values()) share.acknowledged(ack, message.accepted === true);
      return false;
    },
  };
}

module.exports = { answerQueries };
