// Command generate prints what Go's text/template and sprig make of the templates in cases.go,
// as the vectors that the controller's own engine is held to:
//
//	go run . > ../vectors.json
package main

import (
	"encoding/base64"
	"encoding/json"
	"log"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"unicode/utf8"

	"github.com/Masterminds/sprig/v3"
)

// Vector is one template with Go's verdict. Where Ours is set, the controller differs on purpose.
type Vector struct {
	Template     string `json:"template"`
	Output       string `json:"output,omitempty"`
	OutputBase64 string `json:"outputBase64,omitempty"`
	Error        string `json:"error,omitempty"`
	Line         int    `json:"line,omitempty"`
	Ours         string `json:"ours,omitempty"`
}

// File is the whole of vectors.json.
type File struct {
	Functions []string          `json:"functions"`
	Values    map[string][]byte `json:"values"`
	Cases     []Vector          `json:"cases"`
}

func main() {
	log.SetFlags(0)
	functions := offered()
	file := File{Functions: names(functions), Values: values}
	for _, source := range same {
		file.Cases = append(file.Cases, render(source, functions))
	}
	for source, ours := range different {
		vector := render(source, functions)
		vector.Ours = ours
		file.Cases = append(file.Cases, vector)
	}
	tail := file.Cases[len(same):]
	slices.SortFunc(tail, func(a, b Vector) int { return strings.Compare(a.Template, b.Template) })
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(file); err != nil {
		log.Fatal(err)
	}
}

// offered is sprig without what the controller does not offer.
func offered() template.FuncMap {
	functions := sprig.TxtFuncMap()
	for _, name := range withheld {
		if _, ok := functions[name]; !ok {
			log.Fatalf("sprig has no function %q to withhold", name)
		}
		delete(functions, name)
	}
	return functions
}

func names(functions template.FuncMap) []string {
	names := strings.Fields("and eq ge gt html index js le len lt ne not or print printf println slice urlquery")
	for name := range functions {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func render(source string, functions template.FuncMap) (vector Vector) {
	vector.Template = source
	parsed, err := template.New("t").Funcs(functions).Option("missingkey=error").Parse(source)
	if err != nil {
		vector.Error, vector.Line = "parse error", line(err)
		if strings.Contains(err.Error(), "not defined") && strings.Contains(err.Error(), "function") {
			vector.Error = "unknown function"
		}
		return vector
	}
	context := map[string]any{}
	for key, value := range values {
		context[key] = string(value)
	}
	var out strings.Builder
	if err := parsed.Execute(&out, context); err != nil {
		vector.Error, vector.Line = "execution failed", line(err)
		if strings.Contains(err.Error(), "no entry for key") {
			vector.Error = "missing key"
		}
		return vector
	}
	if utf8.ValidString(out.String()) {
		vector.Output = out.String()
	} else {
		vector.OutputBase64 = base64.StdEncoding.EncodeToString([]byte(out.String()))
	}
	return vector
}

var place = regexp.MustCompile(`^template: \w+:(\d+)`)

func line(err error) int {
	match := place.FindStringSubmatch(err.Error())
	if match == nil {
		return 0
	}
	line, _ := strconv.Atoi(match[1])
	return line
}
