package devs3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"strings"

	"github.com/rclone/gofakes3"
)

// nothing stands in a path for what S3 allows between two slashes of a key and a file system does not.
const nothing = "%00"

// lookalike is a part of a key that would be taken for nothing; one more %25 before it says that it is meant.
var lookalike = regexp.MustCompile(`^(?:%25)*%00$`)

// objectPath is the file of a key. What a file system cannot hold is refused.
func objectPath(bucket, key string) (string, error) {
	folder, err := bucketPath(bucket)
	if err != nil {
		return "", err
	}
	var parts []string
	for part := range strings.SplitSeq(strings.TrimSuffix(key, "/"), "/") {
		switch {
		case part == "":
			part = nothing
		case lookalike.MatchString(part):
			part = "%25" + part
		}
		if part == "." || part == ".." || len(part) > 255 || strings.ContainsRune(part, 0) {
			return "", gofakes3.ErrorMessagef(gofakes3.ErrInvalidArgument,
				"the key %q cannot be stored as a file: a part of it between slashes is '.' or '..', is longer than 255 bytes or has a zero byte", key)
		}
		parts = append(parts, part)
	}
	return path.Join(folder, strings.Join(parts, "/")), nil
}

// keyOf is the key of a file, which is named relative to its bucket.
func keyOf(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		switch {
		case part == nothing:
			parts[i] = ""
		case lookalike.MatchString(part):
			parts[i] = strings.TrimPrefix(part, "%25")
		}
	}
	return strings.Join(parts, "/")
}

// SetObjectTagging changes the tags of an object, which are one of its headers.
func (s *store) SetObjectTagging(ctx context.Context, bucket, key, tagging string) error {
	if err := s.mustExist(ctx, bucket); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.describeLocked(bucket, key)
	if err != nil {
		return notFound(key, err)
	}
	d.Headers = maps.Clone(d.Headers)
	if d.Headers == nil {
		d.Headers = map[string]string{}
	}
	d.Headers[gofakes3.TaggingMetadataKey] = tagging
	if tagging == "" {
		delete(d.Headers, gofakes3.TaggingMetadataKey)
	}
	if err := s.writeDescription(bucket, key, s.tempName(), d); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("tag %s/%s: %w", bucket, key, err)
	}
	return nil
}
