"""The stages: one public function each, from files to one result."""
