/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers of the `xattr` area: inlines, macros, and what the kernel may be built without. */
#ifndef CALF_HELPERS_XATTR_H
#define CALF_HELPERS_XATTR_H

#include <linux/fs.h>
#include <linux/posix_acl.h>
#include <linux/types.h>
#include <linux/xattr.h>

static const int CALF_CONST_ACL_TYPE_ACCESS = ACL_TYPE_ACCESS;
static const int CALF_CONST_ACL_TYPE_DEFAULT = ACL_TYPE_DEFAULT;
#ifdef CONFIG_FS_POSIX_ACL
static const unsigned long CALF_CONST_SB_POSIXACL = SB_POSIXACL;
#else
static const unsigned long CALF_CONST_SB_POSIXACL = 0;
#endif

/* There is neither an ACL nor anything that a write would have to strip. */
void calf_inode_no_xattrs(struct inode *inode);
int calf_init_security(struct inode *inode, struct inode *dir, const struct dentry *dentry,
		       int (*store)(struct inode *, const struct xattr *, void *), void *data);

void calf_acl_get(struct posix_acl *acl);
void calf_acl_put(struct posix_acl *acl);
size_t calf_acl_size(const struct posix_acl *acl);
/* @to has calf_acl_size() bytes. */
int calf_acl_to_bytes(const struct posix_acl *acl, void *to);
struct posix_acl *calf_acl_from_bytes(const void *from, size_t size);
int calf_acl_update_mode(struct mnt_idmap *idmap, struct inode *inode, umode_t *mode,
			 struct posix_acl **acl);
int calf_acl_create(struct inode *dir, umode_t *mode, struct posix_acl **default_acl,
		    struct posix_acl **acl);
int calf_acl_chmod(struct mnt_idmap *idmap, struct dentry *dentry);
void calf_acl_cache(struct inode *inode, int type, struct posix_acl *acl);

#endif /* CALF_HELPERS_XATTR_H */
