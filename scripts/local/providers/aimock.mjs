// Runs aimock for scripts/local/providers/aimock.py: prints its port, and ends when standard input does, so that
// it never outlives the process that started it.
import module from 'node:module'
import * as zlib from 'node:zlib'

// aimock imports a name that Node has had since 20.15.
if (!('crc32' in zlib)) module.register?.('./zlib_hooks.mjs', import.meta.url)
const { LLMock } = await import('@copilotkit/aimock')

const words = (text) => text.split(/\s+/).filter(Boolean).length

const mock = new LLMock({
  host: '127.0.0.1', port: 0, logLevel: 'warn', journalMaxEntries: 10, fixtureCountsMaxTestIds: 10,
})
mock.on({ predicate: () => true }, ({ model, messages }) => {
  const asked = messages
    .map(({ content }) => (typeof content === 'string' ? content : JSON.stringify(content)))
    .join('\n')
  const content = `A stand-in for ${model} was asked: ${asked.slice(0, 500)}`
  const [before, after] = [words(asked), words(content)]
  return { content, usage: { prompt_tokens: before, completion_tokens: after, total_tokens: before + after } }
})
const url = await mock.start()
process.stdout.write(`${new URL(url).port}\n`)
process.stdin.on('end', () => process.exit(0)).resume()
