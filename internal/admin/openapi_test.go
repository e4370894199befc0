package admin

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// node is a piece of the description.
type node map[string]any

// at follows keys.
func (n node) at(keys ...string) node {
	for _, key := range keys {
		child, _ := n[key].(map[string]any)
		n = child
	}
	return n
}

// resolve follows a reference.
func (n node) resolve(doc node) node {
	if name, ok := n["$ref"].(string); ok {
		return doc.at(strings.Split(strings.TrimPrefix(name, "#/"), "/")...)
	}
	return n
}

// fits returns how value is not what the schema says.
func fits(doc, schema node, value any, at string) (faults []string) {
	schema = schema.resolve(doc)
	fault := func(format string, args ...any) { faults = append(faults, at+": "+fmt.Sprintf(format, args...)) }
	if schema["type"] == nil {
		fault("the schema has no type")
	}
	switch v := value.(type) {
	case map[string]any:
		if schema["type"] != "object" {
			fault("an object, want %v", schema["type"])
		}
		required, _ := schema["required"].([]any)
		for _, key := range required {
			if _, ok := v[key.(string)]; !ok {
				fault("%s is missing", key)
			}
		}
		for key, inner := range v {
			property, ok := schema.at("properties")[key].(map[string]any)
			switch {
			case ok:
				faults = append(faults, fits(doc, property, inner, at+"."+key)...)
			case schema["additionalProperties"] == false:
				fault("%s is not described", key)
			}
		}
	case []any:
		if schema["type"] != "array" {
			fault("an array, want %v", schema["type"])
		}
		for i, inner := range v {
			faults = append(faults, fits(doc, schema.at("items"), inner, fmt.Sprintf("%s[%d]", at, i))...)
		}
	case string:
		if schema["type"] != "string" {
			fault("a string, want %v", schema["type"])
		}
		if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, value) {
			fault("%q, want one of %v", v, enum)
		}
		if _, err := time.Parse(time.RFC3339, v); schema["format"] == "date-time" && err != nil {
			fault("%v", err)
		}
	case float64:
		if schema["type"] != "integer" {
			fault("a number, want %v", schema["type"])
		}
	case bool:
		if schema["type"] != "boolean" {
			fault("a boolean, want %v", schema["type"])
		}
	default:
		fault("%v", v)
	}
	return faults
}

func description(t *testing.T) node {
	t.Helper()
	var doc node
	w := send(newAPI(fullPolicy()), "GET", "/api/v1/openapi.json", "")
	if err := json.Unmarshal(w.Body.Bytes(), &doc); w.Code != 200 || err != nil || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("got %d %v, %v", w.Code, w.Header(), err)
	}
	return doc
}

func TestDescriptionNamesTheRoutes(t *testing.T) {
	t.Parallel()
	doc := description(t)
	var described, there []string
	for path, item := range doc.at("paths") {
		for method := range item.(map[string]any) {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	for _, r := range newAPI(fullPolicy()).routes() {
		if strings.Contains(r.pattern, " /api/v1/") {
			there = append(there, r.pattern)
		}
	}
	slices.Sort(described)
	slices.Sort(there)
	if !slices.Equal(described, there) {
		t.Errorf("described are\n%s\nthere are\n%s", strings.Join(described, "\n"), strings.Join(there, "\n"))
	}
}

// bodies returns requests with every field that the description has.
func bodies() map[string]string {
	return map[string]string{
		"RestrictionRequest": `{"dbAllowedCidrs": ["10.0.0.0/8"], "dbAllowedCidrsV6": ["::/0"], "allowNobody": true, "allowSelfCutoff": true, "confirmWithin": "2m"}`,
		"EncryptionRequest":  `{"requestedConfig": {"database": true}}`,
		"ClearRequest":       `{"tenant": "acme", "network": "203.0.113.7", "all": false}`,
	}
}

func TestHandlersDoWhatTheDescriptionSays(t *testing.T) {
	t.Parallel()
	doc := description(t)
	for path, item := range doc.at("paths") {
		for method := range item.(map[string]any) {
			operation := node(item.(map[string]any)).at(method)
			body := ""
			if ref, ok := operation.at("requestBody", "content", "application/json", "schema")["$ref"].(string); ok {
				name := strings.TrimPrefix(ref, "#/components/schemas/")
				body = bodies()[name]
				var value map[string]any
				if err := json.Unmarshal([]byte(body), &value); err != nil {
					t.Fatalf("a body for %s: %v", name, err)
				}
				schema := doc.at("components", "schemas", name)
				if faults := fits(doc, schema, value, name); len(faults) > 0 || len(value) != len(schema.at("properties")) {
					t.Errorf("%s does not have every field: %v", name, faults)
				}
			}
			w := send(newAPI(fullPolicy()), strings.ToUpper(method), path, body, bearer)
			answers(t, doc, operation, method+" "+path, w.Code, w.Body.Bytes())
			if security, _ := operation["security"].([]any); len(security) > 0 {
				w := send(newAPI(fullPolicy()), strings.ToUpper(method), path, body)
				answers(t, doc, operation, method+" "+path+" without the token", w.Code, w.Body.Bytes())
				if w.Code != 401 {
					t.Errorf("%s %s without the token: got %d", method, path, w.Code)
				}
			}
		}
	}
}

// answers holds an answer against the description of its operation.
func answers(t *testing.T, doc, operation node, about string, code int, body []byte) {
	t.Helper()
	schema := operation.at("responses", fmt.Sprint(code), "content", "application/json", "schema")
	if schema == nil {
		t.Errorf("%s: %d is not described", about, code)
		return
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		t.Errorf("%s: %v in %s", about, err, body)
		return
	}
	if value == nil { // the target of the tests has no status
		return
	}
	for _, fault := range fits(doc, schema, value, "answer") {
		t.Errorf("%s: %s", about, fault)
	}
}
