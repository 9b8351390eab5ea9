'use strict';

// Where Node's worker does less than it says; docs/node.md lists it.

// What a message to a primary that is gone fails with. Node sees that it is gone only afterwards, at the end of the channel.
const GONE = new Set(['EPIPE', 'ECONNRESET', 'ERR_IPC_CHANNEL_CLOSED']);

/**
 * process.send for which a message of node:cluster itself that a dead primary no longer reads is no exception: a worker that is
 * leaving would end with its requests in hand. What the program sends fails as it does in Node.
 */
function sendOwn(send) {
  function told(error) {
    if (error && !GONE.has(error.code)) process.emit('error', error);
  }
  return function sendToPrimary(message, handle, ...rest) {
    const own = message?.cmd === 'NODE_CLUSTER' && rest.length === 0 && typeof handle !== 'function';
    return Reflect.apply(send, this, own ? [message, handle, undefined, told] : [message, handle, ...rest]);
  };
}

module.exports = { sendOwn };
