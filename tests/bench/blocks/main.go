// blocks writes the series of a benchmark into one block of a Prometheus database, without a server.
//
//	blocks -out data -start 1760400000 -end 1760403960 < rows
//
// A row is one series: tests/bench/serve_series.py says what it holds. The series go straight into the block, one after the
// other, so that two million of them need no more memory than their labels.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
)

const (
	chunkSamples = 120 // as Prometheus cuts them
	phases       = 7   // of the sine, so that gauges do not all move together
	waveSeconds  = 97
)

// row is one series; interval and delay are in seconds.
type row struct {
	kind            byte
	a, b            float64
	interval, delay int64
	labels          labels.Labels
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("blocks: ")
	out := flag.String("out", "", "the database's folder; the block becomes a folder in it")
	start := flag.Int64("start", 0, "unix seconds of the first scrape")
	end := flag.Int64("end", 0, "unix seconds that no sample is later than")
	flag.Parse()
	if *out == "" || *end <= *start {
		log.Fatal("-out and an -end after -start are needed")
	}
	begun := time.Now()
	rows, symbols, err := read(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	slices.SortFunc(rows, func(x, y row) int { return labels.Compare(x.labels, y.labels) })
	stats, err := write(*out, rows, symbols, *start, *end)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d series, %d samples in %.1f s\n", stats.NumSeries, stats.NumSamples, time.Since(begun).Seconds())
}

// read returns the rows and every text in their labels.
func read(from io.Reader) ([]row, []string, error) {
	var rows []row
	known := map[string]string{"": ""}
	interned := func(text string) string {
		if found, ok := known[text]; ok {
			return found
		}
		text = strings.Clone(text)
		known[text] = text
		return text
	}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	builder := labels.NewScratchBuilder(32)
	for lines.Scan() {
		one, err := parse(lines.Text(), &builder, interned)
		if err != nil {
			return nil, nil, fmt.Errorf("row %d: %w", len(rows)+1, err)
		}
		rows = append(rows, one)
	}
	symbols := make([]string, 0, len(known))
	for text := range known {
		symbols = append(symbols, text)
	}
	slices.Sort(symbols)
	return rows, symbols, lines.Err()
}

func parse(line string, builder *labels.ScratchBuilder, interned func(string) string) (row, error) {
	fields := strings.Split(line, "\t")
	if len(fields) < 6 || len(fields[0]) != 1 {
		return row{}, fmt.Errorf("%d fields: %q", len(fields), line)
	}
	var numbers [4]float64
	for i := range numbers {
		number, err := strconv.ParseFloat(fields[1+i], 64)
		if err != nil {
			return row{}, err
		}
		numbers[i] = number
	}
	builder.Reset()
	for _, label := range fields[5:] {
		name, value, _ := strings.Cut(label, "\x01")
		if value != "" {
			builder.Add(interned(name), interned(value))
		}
	}
	builder.Sort()
	return row{fields[0][0], numbers[0], numbers[1], int64(numbers[2]), int64(numbers[3]), builder.Labels()}, nil
}

// at is the value so many seconds after the start: serve_series.value in Go.
func (r row) at(seconds float64, phase int) float64 {
	if r.kind == 'c' {
		return math.Floor(r.a + r.b*seconds)
	}
	value := r.a + r.b*math.Sin(seconds/waveSeconds+float64(phase))
	if r.kind == 'i' {
		return math.Round(value)
	}
	return value
}

// write makes the block and returns what is in it. A block without its meta.json is none, so that comes last.
func write(folder string, rows []row, symbols []string, start, end int64) (tsdb.BlockStats, error) {
	id := ulid.MustNew(ulid.Now(), rand.Reader)
	block := filepath.Join(folder, id.String())
	meta := tsdb.BlockMeta{ULID: id, MinTime: start * 1000, MaxTime: end*1000 + 1, Version: 1}
	meta.Compaction = tsdb.BlockMetaCompaction{Level: 1, Sources: []ulid.ULID{id}}
	if err := os.MkdirAll(block, 0o777); err != nil {
		return meta.Stats, err
	}
	if err := fill(block, rows, symbols, start, end, &meta.Stats); err != nil {
		return meta.Stats, err
	}
	text, err := json.MarshalIndent(meta, "", "\t")
	if err != nil {
		return meta.Stats, err
	}
	return meta.Stats, os.WriteFile(filepath.Join(block, "meta.json"), text, 0o666)
}

func fill(block string, rows []row, symbols []string, start, end int64, stats *tsdb.BlockStats) error {
	samples, err := chunks.NewWriter(filepath.Join(block, "chunks"))
	if err != nil {
		return err
	}
	series, err := index.NewWriter(context.Background(), filepath.Join(block, "index"))
	if err != nil {
		return err
	}
	for _, symbol := range symbols {
		if err := series.AddSymbol(symbol); err != nil {
			return err
		}
	}
	for i, one := range rows {
		encoded, count, err := one.encode(start, end, i%phases)
		if err != nil {
			return err
		}
		if err := samples.WriteChunks(encoded...); err != nil {
			return err
		}
		if err := series.AddSeries(storage.SeriesRef(i+1), one.labels, encoded...); err != nil {
			return fmt.Errorf("%s: %w", one.labels, err)
		}
		stats.NumSeries++
		stats.NumChunks += uint64(len(encoded))
		stats.NumSamples += uint64(count)
		stats.NumFloatSamples += uint64(count)
	}
	if err := samples.Close(); err != nil {
		return err
	}
	return series.Close()
}

// encode returns the series' chunks and how many samples they hold.
func (r row) encode(start, end int64, phase int) ([]chunks.Meta, int, error) {
	var encoded []chunks.Meta
	var chunk *chunkenc.XORChunk
	var appender chunkenc.Appender
	count := 0
	for t := start + r.delay; t <= end; t += r.interval {
		if count%chunkSamples == 0 {
			chunk = chunkenc.NewXORChunk()
			var err error
			if appender, err = chunk.Appender(); err != nil {
				return nil, 0, err
			}
			encoded = append(encoded, chunks.Meta{Chunk: chunk, MinTime: t * 1000})
		}
		appender.Append(0, t*1000, r.at(float64(t-start), phase))
		encoded[len(encoded)-1].MaxTime = t * 1000
		count++
	}
	return encoded, count, nil
}
