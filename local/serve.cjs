// Serves one stand-in for AWS over HTTP, in memory. Their own commands would listen on all addresses.
// Usage: node serve.cjs kinesalite|dynalite|kinesis-local [PORT] [HOST]
'use strict'

const net = require('node:net')
const path = require('node:path')

const [service, port = '0', host = '127.0.0.1'] = process.argv.slice(2)
const shardLimit = 2000

function announce(server) {
  const { address, port } = server.address()
  console.log(`listening on ${address}:${port}`)
}

// Kinesalite never answers a GetShardIterator AT_TIMESTAMP when no record arrived at or after it. AWS gives an
// iterator to the tip then.
function answerLateTimestamps() {
  const action = require.resolve('kinesalite/actions/getShardIterator')
  const getShardIterator = require(action)
  require.cache[action].exports = (store, data, done) => {
    const inPast = data.ShardIteratorType === 'AT_TIMESTAMP' && data.Timestamp * 1000 <= Date.now()
    if (!inPast) return getShardIterator(store, data, done)
    const { resolveShardId, shardIxToHex } = require('kinesalite/db')
    const { shardIx } = resolveShardId(data.ShardId)
    let late = false
    store.getStreamDb(data.StreamName)
      .createReadStream({ gt: shardIxToHex(shardIx), lt: shardIxToHex(shardIx + 1) })
      .on('data', ({ value }) => { late ||= value.ApproximateArrivalTimestamp >= data.Timestamp })
      .on('end', () => getShardIterator(store, late ? data : { ...data, ShardIteratorType: 'LATEST' }, done))
  }
}

const services = {
  kinesalite: () => {
    answerLateTimestamps()
    require('kinesalite')({ createStreamMs: 1, deleteStreamMs: 1, updateStreamMs: 1, shardLimit })
      .listen(Number(port), host, function () { announce(this) })
  },

  dynalite: () =>
    require('dynalite')({ createTableMs: 1, deleteTableMs: 1, updateTableMs: 1 })
      .listen(Number(port), host, function () { announce(this) }),

  // This one has no module interface: it listens on two ports (TLS, then plain) as soon as it is loaded.
  'kinesis-local': () => {
    const main = require.resolve('kinesis-local')
    const durations = ['CREATE_STREAM', 'DELETE_STREAM', 'MERGE_SHARDS', 'SPLIT_SHARD', 'UPDATE_SHARD_COUNT',
      'UPDATE_STREAM_MODE', 'REGISTER_STREAM_CONSUMER', 'DEREGISTER_STREAM_CONSUMER']
    for (const step of durations) process.env[`${step}_DURATION`] = '1ms'
    process.env.SHARD_LIMIT = String(shardLimit)
    process.env.LOG_LEVEL = 'ERROR'
    process.env.KINESIS_MOCK_PLAIN_PORT = '4568'
    const listen = net.Server.prototype.listen
    net.Server.prototype.listen = function (asked, ready) {
      const isPlain = asked === 4568
      if (isPlain) this.once('listening', () => announce(this))
      return listen.call(this, isPlain ? Number(port) : 0, host, ready)
    }
    process.chdir(path.dirname(main))
    require(main)
  },
}

services[service]()
