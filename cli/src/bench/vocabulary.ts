/** Words of the benchmark's corpus, most frequent first: the generator draws them by Zipf's law. */
const list = (words: string): readonly string[] => words.trim().split(/\s+/);

export const nouns = list(`
  service model index request user order document page team system customer server account price report file message
  network version change product answer question result value field table query database device release memory process
  review ticket error option setting cluster node driver image container volume session token payment invoice delivery
  warehouse recipe kitchen restaurant menu ingredient supplier contract lawyer patient doctor hospital treatment school
  teacher student lesson library book chapter author museum painting garden river mountain harbour ship train station
  bridge engine battery sensor camera screen keyboard printer cable switch router firewall certificate key password
  backup snapshot archive migration schema column row transaction lock queue worker thread scheduler pipeline batch
  latency throughput budget forecast market share bond loan interest tax policy election council minister court law
  factory machine robot conveyor pallet truck route tyre brake fuel sugar flour butter cheese tomato onion garlic
  basil rice noodle soup salad bread coffee tea lemon orange apple forest bird fish whale wolf insect flower seed soil
  weather storm rain wind temperature glacier desert island coast ocean planet star telescope orbit rocket satellite
  signal antenna spectrum protein cell gene virus vaccine trial enzyme bacteria molecule crystal alloy polymer magnet
`);

export const verbs = list(`
  uses returns needs shows starts stops reads writes sends receives stores loads checks changes replaces keeps removes
  creates updates deletes finds compares measures reports explains describes contains follows precedes supports blocks
  delays restores repairs monitors schedules ships packs cooks serves teaches treats examines builds designs paints
  crosses connects separates filters sorts merges splits encodes decodes compresses verifies signs rejects accepts
  approves cancels refunds invoices forecasts funds regulates protects attracts absorbs reflects emits detects binds
`);

export const adjectives = list(`
  new old small large fast slow local remote public private first last main next open closed empty full correct wrong
  safe broken cold warm dry wet early late daily weekly annual recent regional national European northern southern
  modern ancient simple complex cheap expensive rare common red green blue dark bright heavy light quiet loud digital
  mechanical electric organic chemical thermal optical linear nonlinear sparse dense random stable brittle flexible
`);

export const adverbs = list(`
  usually often rarely never quickly slowly directly automatically carefully partly completely again today yesterday
  together separately locally remotely safely twice nearly exactly
`);

export const prepositions = list(`in on with without after before during for from under over near between against beside`);

export const topics = list(`how why when where which what whether`);
