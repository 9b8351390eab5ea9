'use strict';

// Node's channel to a worker, in the primary. One listener sees each internal message before Node's own primary does, and one
// wrapper of `send` sees each answer. Both go through one list of stages. A stage has one or both of these:
//   hears(message, handle)   a message came; true ends its way: later stages and Node's own code ignore it
//   says(message, handle)    Node's own code, or a stage, is about to send this
// The stages, in this order:
//   cli/binds.cjs   notes which addresses could not be had, and why, for the command line
//   data.cjs        lets workers share TLS ticket keys and nothing else
//   guard.cjs       ends a worker whose message would bring Node's own code down
//   permits.cjs     refuses what Node would open itself and the program has not declared
//   queries.cjs     answers queries from the engine
//   socket-files.cjs   tells where a socket file was removed, if Node's own code answers
//   shared.cjs      notes which sockets Node's own code opens for all workers

const PASSED_OVER = 'cluster-rs';

// The stages of each child process that has any.
const lists = new WeakMap();

function nothing() {}

/** Puts stages in front of those that the worker already has. */
function addStages({ process: child }, ...stages) {
  const known = lists.get(child);
  if (known) {
    known.unshift(...stages);
    return;
  }
  lists.set(child, stages);

  child.prependListener('internalMessage', (message, handle) => {
    const isTaken = stages.some((stage) => stage.hears?.(message, handle));
    // Node's own listeners, which come next, look at the act.
    if (isTaken && Object(message) === message) message.act = PASSED_OVER;
  });

  const { send } = child;
  child.send = function sendHeard(message, ...rest) {
    if (message?.cmd !== 'NODE_CLUSTER') return Reflect.apply(send, this, [message, ...rest]);
    for (const stage of stages) stage.says?.(message, rest[0]);
    // A send to a worker that has just gone must not become the program's error, as it would without a callback.
    const callback = rest.find((argument) => typeof argument === 'function') ?? nothing;
    return Reflect.apply(send, this, [message, rest[0], undefined, callback]);
  };
}

/** Says something to a worker as Node's primary would. */
function reply({ process: child }, message) {
  if (child.connected) child.send({ cmd: 'NODE_CLUSTER', ...message });
}

module.exports = { PASSED_OVER, addStages, reply };
