package devserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"testing/fstest"
)

// columnsKey is where the UI keeps the columns of its workflow lists, by namespace, in the browser's
// local storage.
const columnsKey = "namespace-workflow-table-columns"

// withColumns is the UI's assets with a page that sets the columns of the workflow list, in a browser
// that has not set its own. The UI has no setting for it.
//
// The script comes before the page's content security policy, which lets no other script run but
// those it names, and applies to what follows it.
func withColumns(assets fs.FS, namespace string, columns []string) (fs.FS, error) {
	page, err := fs.ReadFile(assets, "index.html")
	if err != nil {
		return nil, err
	}
	type column struct {
		Label string `json:"label"`
	}
	list := make([]column, len(columns))
	for i, c := range columns {
		list[i].Label = c
	}
	value, err := json.Marshal(map[string][]column{namespace: list})
	if err != nil {
		return nil, err
	}
	// Marshalled once more it is a string in JavaScript, without any "<".
	text, err := json.Marshal(string(value))
	if err != nil {
		return nil, err
	}
	head := []byte("<head>")
	script := fmt.Appendf(nil, "<head>\n    <script>localStorage[%q] ??= %s</script>", columnsKey, text)
	if !bytes.Contains(page, head) {
		return nil, errors.New("the Temporal UI's page has no head")
	}
	return overlay{
		FS:  assets,
		top: fstest.MapFS{"index.html": {Data: bytes.Replace(page, head, script, 1)}},
	}, nil
}

// overlay is a file system some of whose files are replaced.
type overlay struct {
	fs.FS
	top fs.FS
}

func (o overlay) Open(name string) (fs.File, error) {
	if f, err := o.top.Open(name); err == nil && name != "." {
		return f, nil
	}
	return o.FS.Open(name)
}
